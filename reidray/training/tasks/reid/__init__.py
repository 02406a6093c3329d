"""Training networks that recognise people."""
