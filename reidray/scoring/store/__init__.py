"""Keep embeddings between nightly runs, and delete those of a person."""
