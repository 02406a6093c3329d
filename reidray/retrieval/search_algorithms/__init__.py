"""Find the k nearest images: in the cache of a CPU, or without a read by the host on a GPU."""
