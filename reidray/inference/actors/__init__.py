"""Run blocks of images on a pool of Ray actors, which survives the loss of processes and nodes."""
