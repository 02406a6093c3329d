"""Score folders of images with a model, and keep and delete embeddings."""
