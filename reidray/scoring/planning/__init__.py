"""Plan a nightly run: what it takes, and what decides that, from some of its images."""
