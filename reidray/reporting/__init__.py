"""Render reports, model cards and charts as files that need no other file."""
