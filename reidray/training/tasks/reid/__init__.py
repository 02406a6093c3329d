"""Train networks that recognise people."""
