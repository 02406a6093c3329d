"""Decode, crop and augment images."""
