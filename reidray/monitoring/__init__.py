"""Metrics of running jobs for Prometheus, which Ray exports on each node."""
