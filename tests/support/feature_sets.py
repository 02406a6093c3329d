"""Write files of features."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq


def write_features(file, /, embedding, **columns):
    """Write an .npz or Parquet file of these columns, chosen by the suffix."""
    if file.suffix == ".npz":
        np.savez(file, embedding=embedding, **columns)
    else:
        papq.write_table(pa.table({"embedding": list(embedding), **columns}), file)
    return str(file)


def two_person_features(noise=0.1):
    """Return two queries and a gallery with two images near each of them."""
    centres = np.eye(2, 4, dtype=np.float32)
    drawn = np.random.default_rng(0).normal(size=(4, 4)) * noise
    gallery = centres[[0, 1, 0, 1]] + drawn.astype(np.float32)
    return centres, gallery
