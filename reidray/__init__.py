"""Person re-identification and multi-task image models on a Ray cluster."""
