"""Draw the charts of the reports."""
