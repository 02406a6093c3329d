"""Keep the ranking of a run in its store, and search only what is new in the next run."""
