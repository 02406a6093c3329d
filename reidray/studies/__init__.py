"""Reproduce the tables and charts of the source reports."""
