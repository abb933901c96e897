"""Renders the report of a run: a page, data, CSV, LaTeX, and tables for the terminal."""

from expertree.report.schema import Run
from expertree.report.terminal import results_table
from expertree.report.write import render_report, write_report

__all__ = ["Run", "render_report", "results_table", "write_report"]
