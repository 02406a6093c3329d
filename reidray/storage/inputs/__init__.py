"""Check the contents of inputs before any expensive work."""
