"""Train networks: the loop, its tasks, and the loop on a Ray cluster."""
