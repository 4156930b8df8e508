"""The report of a run: one HTML file that holds all it shows."""

from __future__ import annotations

from tasks.report.page import ReportParts, write_report
from tasks.report.pixels import class_spectra, location_table, quicklook

__all__ = ["ReportParts", "class_spectra", "location_table", "quicklook", "write_report"]
