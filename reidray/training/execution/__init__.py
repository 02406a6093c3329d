"""Run the processes of a training: one in this process, or several on a Ray cluster."""
