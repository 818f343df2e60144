"""Thousands of scans, unattended: `gather` finds them, `run` makes them, `unattended` keeps what became of them."""
