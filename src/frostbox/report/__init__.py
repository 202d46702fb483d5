"""Self-contained HTML pages: the report of an evaluation and that of a data set.

`contract.py` says what a page is filled with, `html.py` fills it, `gallery.py` chooses and encodes
the pictures. Script and style are ordinary files in `page/`.
"""

from frostbox.report.html import write_evaluation_report, write_explore_report

__all__ = ["write_evaluation_report", "write_explore_report"]
