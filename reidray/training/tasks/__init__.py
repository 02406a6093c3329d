"""Define what a network is trained for: re-ID, or several tasks at once."""
