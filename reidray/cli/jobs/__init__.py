"""Define the jobs of the command line, one module each."""
