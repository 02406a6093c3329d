"""Plan a training: what it takes, and what decides that, from a few steps and images."""
