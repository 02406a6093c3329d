"""Read folders, file names and tables: the parts that layouts are made of."""
