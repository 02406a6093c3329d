"""The files that a comparison leaves."""

FIGURES_FILE = "comparison.json"
TABLE_FILE = "table.csv"
REPORT_FILE = "report.html"
