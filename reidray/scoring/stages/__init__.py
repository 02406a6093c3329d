"""Look up, locate, search and write the images of a nightly run, a shard of a listing at a time."""
