"""The verdict on a page, in Markdown and in the terminal. Everything here only shows what the verdict says."""

from underdog.report.terminal import terminal_table
from underdog.report.write import ReportPaths, write_report

__all__ = ["ReportPaths", "terminal_table", "write_report"]
