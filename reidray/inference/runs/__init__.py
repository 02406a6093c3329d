"""Run the embedding of a job: choose its engine, and measure its time."""
