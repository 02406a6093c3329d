"""Define the tasks of a training: re-ID, and multi-task networks."""
