"""Parse the flags of a job, run it, and report its result."""
