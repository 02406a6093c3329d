"""Configure the jobs that use a trained model: its embeddings, and its export."""
