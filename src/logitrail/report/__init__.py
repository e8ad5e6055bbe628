"""What a run found, for people: one self-contained HTML file, Markdown, or JSON. Reads files; imports no torch."""

from __future__ import annotations

from logitrail.report.document import report_document
from logitrail.report.markdown import report_markdown
from logitrail.report.page import build_report
from logitrail.report.run import Run, load_run, parse_summary

__all__ = ["Run", "build_report", "load_run", "parse_summary", "report_document", "report_markdown"]
