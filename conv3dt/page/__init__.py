"""How does a night of scans look in the morning?  One HTML page with a row a scan, which asks nothing of a network.

from conv3dt.page import Row, render

page = render([Row("sub-01", "done", 1.2, report=report.as_dict(), before=before, after=after)],
              title="batch", facts={"started": "22:04"})
"""

from __future__ import annotations

from conv3dt.page.assemble import MOST_BYTES, STATUSES, Row, check_page, render

__all__ = ["MOST_BYTES", "STATUSES", "Row", "check_page", "render"]
