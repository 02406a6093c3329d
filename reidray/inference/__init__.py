"""Embeddings of images that a caller holds, without Ray."""
