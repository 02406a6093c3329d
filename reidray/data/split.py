"""A validation split by person: whoever is in val was never seen in training."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reidray.data.manifest import Manifest
from reidray.errors import UserError


def split_people(manifest: Manifest, val_fraction: float = 0.3, seed: int = 0) -> Manifest:
    """The manifest with a share of its training people set apart as `val`.

    People are taken in a random order, which depends on the seed and on who they are and not on
    the order of rows, until `1 - val_fraction` of the images are in train; all others go to val.
    Junk (-1), distractors (0) and images of nobody known are left out of both, and counted in
    the notes. A manifest that has `val` rows comes back as it is.

    Raises:
        UserError: `val_fraction` is not between 0 and 1, or there are fewer than two people.
    """
    if not 0 < val_fraction < 1:
        raise UserError(f"val_fraction is {val_fraction}, expected a share between 0 and 1")
    table = manifest.table
    split = table["split"]
    if pc.any(pc.equal(split, "val")).as_py():
        return manifest
    in_train = pc.equal(split, "train")
    known = pc.fill_null(pc.greater(table["person"], 0), False)
    kept = table.filter(pc.or_(pc.invert(in_train), known))
    in_train = pc.equal(kept["split"], "train")
    in_val = pc.is_in(
        kept["person"],
        value_set=pa.array(
            _people_of_val(kept.filter(in_train)["person"].to_numpy(), val_fraction, seed),
            pa.int64(),
        ),
    )
    splits = pc.if_else(pc.and_(in_train, in_val), "val", kept["split"])
    dropped = table.num_rows - kept.num_rows
    note = f"training images of junk, distractors or nobody known, left out: {dropped}"
    return replace(
        manifest,
        table=kept.set_column(kept.column_names.index("split"), "split", splits).combine_chunks(),
        notes=(*manifest.notes, note) if dropped else manifest.notes,
    )


def _people_of_val(
    persons: np.ndarray[tuple[int], np.dtype[np.int64]], val_fraction: float, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    people, images = np.unique(persons, return_counts=True)
    if len(people) < 2:
        raise UserError(
            f"train holds {len(people)} people, expected at least 2 to set some apart for val"
        )
    order = np.random.default_rng(seed).permutation(len(people))
    reached = np.cumsum(images[order])
    train_people = 1 + int(np.searchsorted(reached, (1 - val_fraction) * len(persons)))
    return people[order[min(train_people, len(people) - 1) :]]
