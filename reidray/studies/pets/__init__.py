"""Compare the networks of the pets reports."""
