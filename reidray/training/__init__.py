"""Tasks, the one loop that trains them, and the loop on a Ray cluster."""
