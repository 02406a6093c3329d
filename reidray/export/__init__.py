"""Write trained networks in the formats of other programs, and check what was written."""
