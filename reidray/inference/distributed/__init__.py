"""Embed and compute in the workers of a Ray cluster, which write what they compute."""
