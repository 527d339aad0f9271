"""Reports: answers put together for a reader.

Enters: metrics over a scope. Leaves: `Report`, one value that is a page, Markdown, JSON and CSV tables; same inputs, same
bytes. Layer: reports, above metrics and questions.
"""

from tocsin.reports.report import Report
from tocsin.reports.weekly import week_of, weekly

__all__ = ["Report", "week_of", "weekly"]
