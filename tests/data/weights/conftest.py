"""What is here is data; the scripts that made it need other libraries than the tests."""

from __future__ import annotations

collect_ignore_glob = ["make_*.py"]
