"""Compute the neighbourhoods of re-ranking and their overlap: sparse on a CPU, padded on a GPU."""
