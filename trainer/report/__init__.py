"""From a grid's folder to results.csv, results.json and a self-contained report.html. No torch."""

from trainer.report.page import JSON_FILE, REPORT_FILE, RESULTS_FILE, write_report

__all__ = [
    "JSON_FILE",
    "REPORT_FILE",
    "RESULTS_FILE",
    "write_report",
]
