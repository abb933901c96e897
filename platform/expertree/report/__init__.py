"""Pictures and tables of a run or a search: pages, data, CSV, LaTeX, and for the terminal."""

from expertree.report.schema import Run
from expertree.report.search_terminal import search_summary
from expertree.report.search_write import render_search, write_search
from expertree.report.terminal import results_table
from expertree.report.write import render_report, write_report

__all__ = [
    "Run",
    "render_report",
    "render_search",
    "results_table",
    "search_summary",
    "write_report",
    "write_search",
]
