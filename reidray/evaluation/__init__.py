"""Evaluate rankings, features and models against the ground truth."""
