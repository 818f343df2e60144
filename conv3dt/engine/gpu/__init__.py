"""GPUs: regions dealt out to devices, each computed by one of three ways."""
