"""What lies here that is no test?  The scripts that wrote the data; they need programs that the tests do not."""

collect_ignore_glob = ["**/make_*.py", "make_*.py"]
