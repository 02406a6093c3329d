"""Split images for validation off the training images, by person or by image."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.data.manifest import SPLITS, Manifest, encode_names
from reidray.data.sampling.person_index import Integers, PersonIndex, index_type
from reidray.data.stored_rows import keep_rows
from reidray.errors import UserError

SplitOrder = Literal["random", "files"]


def split_by_person(
    manifest: Manifest,
    val_fraction: float = 0.3,
    seed: int = 0,
    *,
    order: SplitOrder = "random",
) -> Manifest:
    """Return a manifest in which a share of the people of `train` has moved to `val`.

    People are taken in order until `1 - val_fraction` of the images are in train; the others go to
    val. A random order depends on the seed and on the ids. The order of the files is that of the
    first path of each person: where the paths of each person follow each other, train holds the
    first images and the rest of their last person.

    Junk (-1), distractors (0) and images of unknown people are left out of both splits and counted
    in the notes. A manifest that has `val` rows is returned unchanged.

    Where several data sets are joined, each without `val` rows is split as it would be alone.

    Args:
        manifest: the manifest.
        val_fraction: the share of the training images for val, above 0 and below 1.
        seed: the seed of the random order.
        order: `random`, or `files` for the order of the files.

    Raises:
        UserError: `val_fraction` is not between 0 and 1, or a set has fewer than two people.
    """
    _check_fraction(val_fraction)
    table = manifest.table
    sets = manifest.by_dataset("split", "person")
    parts = {name: rows for name, rows in sets.items() if not _has_val(rows)}
    if not parts:
        return manifest
    val_people = [
        _people_of_val(_known_people(rows), val_fraction, seed, order, name)
        for name, rows in parts.items()
    ]
    in_train = pc.equal(table["split"], "train")
    known = pc.fill_null(pc.greater(table["person"], 0), False)
    if manifest.datasets:
        known = pc.or_(known, pc.invert(pc.is_in(table["dataset"], value_set=pa.array([*parts]))))
    kept = keep_rows(table, pc.or_(pc.invert(in_train), known))
    in_train = pc.equal(kept["split"], "train")
    value_set = pa.array(np.concatenate(val_people), pa.int64())
    in_val = pc.is_in(kept["person"], value_set=value_set)
    note = "training images of junk, distractors or unknown people, left out"
    return _resplit(manifest, kept, pc.and_(in_train, in_val), note)


def split_by_image(
    manifest: Manifest,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    order: SplitOrder = "random",
) -> Manifest:
    """Return a manifest in which a share of each class of `train` has moved to `val`.

    Of the n images of a class, `round(val_fraction * n)` go to val, but at least one and never all;
    the only image of a class stays in train. They are drawn at random, or are the last of their
    class in the order of the files. Images of train and val without a label are left out
    and counted in the notes. Without a `label` column, all images form one class. A manifest that
    has `val` rows keeps them.

    Args:
        manifest: the manifest.
        val_fraction: the share of the training images for val, above 0 and below 1.
        seed: the seed of the draw.
        order: `random`, or `files` for the order of the files.

    Raises:
        UserError: `val_fraction` is not between 0 and 1, a class has no training image, or no
            class has two images.
    """
    _check_fraction(val_fraction)
    table = manifest.table
    if "label" in table.column_names:
        needs_label = pc.is_in(table["split"], value_set=pa.array(["train", "val"]))
        table = keep_rows(table, pc.or_(pc.invert(needs_label), pc.is_valid(table["label"])))
        _check_classes(table, manifest)
    in_val = pc.equal(table["split"], "val")
    if not _has_val(table):
        in_val = pa.array(_images_of_val(table, val_fraction, seed, order))
    return _resplit(manifest, table, in_val, "images without a label, left out of train and val")


def _check_fraction(val_fraction: float) -> None:
    if not 0 < val_fraction < 1:
        raise UserError(f"`val_fraction` is {val_fraction}, expected a share above 0 and below 1")


def _has_val(table: pa.Table) -> bool:
    return bool(pc.any(pc.equal(table["split"], "val")).as_py())


def _known_people(table: pa.Table) -> Integers:
    """Return the person of each training image that shows a known person, (N,)."""
    in_train = pc.equal(table["split"], "train")
    is_known = pc.and_(in_train, pc.fill_null(pc.greater(table["person"], 0), False))
    known = table["person"].filter(is_known)
    kind = index_type(pc.max(known).as_py() or 0)
    return np.asarray(known.cast(pa.from_numpy_dtype(kind)).to_numpy())


def _resplit(manifest: Manifest, kept: pa.Table, in_val: pa.Array, note: str) -> Manifest:
    """Return the manifest of the kept rows, with split `val` where `in_val`; note the others."""
    splits = encode_names(pc.if_else(in_val, "val", kept["split"]), SPLITS)
    dropped = manifest.table.num_rows - kept.num_rows
    return replace(
        manifest,
        table=kept.set_column(kept.column_names.index("split"), "split", splits),
        notes=(*manifest.notes, f"{note}: {dropped}") if dropped else manifest.notes,
    )


def _check_classes(table: pa.Table, manifest: Manifest) -> None:
    """Check that every class has a training image."""
    labels = table.filter(pc.equal(table["split"], "train"))["label"].to_numpy()
    images = np.bincount(labels, minlength=len(manifest.classes))
    missing = np.flatnonzero(images == 0)
    if not len(missing):
        return
    elsewhere = pc.sum(pc.equal(table["label"], int(missing[0]))).as_py() or 0
    raise UserError(
        f"{manifest.root}: class {manifest.classes[missing[0]]!r} has no training image (classes "
        f"without: {len(missing)}; other splits hold {elsewhere} of this one); train holds "
        f"{len(labels)} images of {np.count_nonzero(images)} of {len(manifest.classes)} classes; "
        "add the missing ones or leave their classes out"
    )


def _images_of_val(
    table: pa.Table, val_fraction: float, seed: int, order: SplitOrder
) -> NDArray[np.bool]:
    """Return the mask of the training images that go to val, (rows,) bool."""
    train = np.flatnonzero(pc.equal(table["split"], "train").to_numpy())
    labels = np.zeros(len(train), dtype=np.int64)
    if "label" in table.column_names:
        labels = table["label"].take(train).to_numpy()
    in_val = np.zeros(table.num_rows, dtype=np.bool)
    for label in np.unique(labels):
        rows = train[labels == label]
        count = min(max(1, round(val_fraction * len(rows))), len(rows) - 1)
        candidates = rows[::-1]
        if order == "random":
            candidates = np.random.default_rng([seed, label]).permutation(rows)
        in_val[candidates[:count]] = True
    if not in_val.any():
        raise UserError(
            f"train holds {len(train)} images and no two of any class, expected at least 2 of one "
            "to set some apart for val"
        )
    return in_val


def _people_of_val(
    persons: Integers, val_fraction: float, seed: int, order: SplitOrder, dataset: str
) -> NDArray[np.int64]:
    """Return the people of a set's training images, (N,), who go to val, (n,) int64.

    The name of the set, which the message of an error contains, is empty for one set alone.
    """
    index = PersonIndex.from_person_ids(persons)
    if index.num_people < 2:
        raise UserError(
            f"{f'{dataset}: ' if dataset else ''}train holds {index.num_people} people, expected "
            "at least 2 to set some apart for val"
        )
    first = index.order[index.starts]
    ranked = np.argsort(first)
    if order == "random":
        ranked = np.random.default_rng(seed).permutation(index.num_people)
    reached = np.cumsum(index.counts[ranked])
    train_people = 1 + int(np.searchsorted(reached, (1 - val_fraction) * len(persons)))
    in_val = ranked[min(train_people, index.num_people - 1) :]
    return persons[first[in_val]].astype(np.int64)
