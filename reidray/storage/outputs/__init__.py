"""Write the outputs of jobs that are single files."""
