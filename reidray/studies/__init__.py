"""Reproduce the source reports."""
