"""Of the images of a night, those that a store does not know yet, and where all are kept in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.decoding import BadImage
from reidray.inference.digests import HASH_BYTES
from reidray.inference.image_batches import BatchPredictions, ImageSet
from reidray.inference.predictions import Predictions, joined
from reidray.scoring.store.embedding_store import EmbeddingStore, look_up_images
from reidray.scoring.store.part_file import IMAGES_SCHEMA

PART_ROWS = 8192
"""Images whose embeddings are written together; a run that is killed loses fewer than these."""


@dataclass(frozen=True)
class StoredSet:
    """Where the embeddings of an image set are kept.

    Attributes:
        rows: (M,) int64 ascending, indices in the set's paths of the images that decode.
        kept: (M,) int64, their rows in the store.
        bad: the images that do not decode, by path.
    """

    rows: NDArray[np.int64]
    kept: NDArray[np.int64]
    bad: tuple[BadImage, ...]


class IncrementalUpdate:
    """What a night adds to a store.

    Attributes:
        missing: of each set the rows, ascending, that have to be read.
        embedded: how many were embedded so far.
        retries: requests to an object store that were sent again so far.
    """

    def __init__(self, sets: Sequence[ImageSet], store: EmbeddingStore) -> None:
        """Look up some sets.

        Args:
            sets: the images of the night.
            store: the embeddings of its model, opened with the folders of the sets.
        """
        self.embedded = 0
        self.retries = 0
        self._store = store
        folders = [folder_of(each) for each in sets]
        seen = {folder: store.take_seen(folder) for folder in set(folders)}
        self._sets = [
            _Sighted(each, folder, seen[folder]) for each, folder in zip(sets, folders, strict=True)
        ]
        self.missing = [sighted.missing(store) for sighted in self._sets]
        self._predictions: list[Predictions] = []
        self._embedded: list[dict[str, object]] = []
        self._named: list[dict[str, object]] = []

    def known(self) -> NDArray[np.bytes_]:
        """Sorted digests, (N,) S32, of what the store has embeddings of."""
        return np.sort(np.array(self._store.contents.to_pylist(), dtype=f"S{HASH_BYTES}"))

    def take(self, batch: BatchPredictions) -> None:
        """Keep what was embedded; it is written once there is enough of it."""
        self.retries += batch.retries
        self.embedded += len(batch.kept)
        images = self._sets[batch.set].take(batch)
        embedded = set(batch.kept.tolist())
        self._predictions.append(batch.predictions)
        self._embedded += [images[place] for place in batch.kept]
        self._named += [
            image
            for place, image in enumerate(images)
            if image["content"] and place not in embedded
        ]
        if len(self._embedded) + len(self._named) >= PART_ROWS:
            self._write()

    def finish(self) -> list[StoredSet]:
        """Write what is left, and say where all images are kept."""
        self._write()
        return [sighted.stored(self._store) for sighted in self._sets]

    def _write(self) -> None:
        rows = self._embedded + self._named
        if rows:
            images = pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
            self._store.append(images, joined(self._predictions))
        self._predictions, self._embedded, self._named = [], [], []


def folder_of(images: ImageSet) -> str:
    """The folder of a set, as a store names it."""
    return images.location.uri.partition("?")[0]


class _Sighted:
    """The images of a set, with what is known of each."""

    def __init__(self, images: ImageSet, folder: str, seen: pa.Table) -> None:
        self._paths = images.paths
        self._folder = folder
        self._stamps = images.location.read_stamps(images.paths)
        self._reasons: dict[int, str] = {}
        paths, stamps = pa.array(images.paths), pa.array(self._stamps, pa.string())
        known = look_up_images(seen, paths, stamps)
        self._contents: list[bytes | None] = known.contents.to_pylist()
        for row in np.flatnonzero(known.reasons.is_valid()).tolist():
            self._reasons[row] = known.reasons[row].as_py()

    def missing(self, store: EmbeddingStore) -> NDArray[np.int64]:
        """Rows of the images that have no embedding, but for those known to be no pictures."""
        absent = store.rows_of(pa.array(self._contents, pa.binary(HASH_BYTES))) < 0
        absent[list(self._reasons)] = False
        return np.flatnonzero(absent)

    def take(self, batch: BatchPredictions) -> list[dict[str, object]]:
        """Learn what was read.

        Returns:
            A row of a store for each image; its content is empty where it could not be read.
        """
        reasons = {
            batch.rows[place]: why for place, why in zip(batch.bad, batch.reasons, strict=True)
        }
        self._reasons |= reasons
        for row, content in zip(batch.rows, batch.contents, strict=True):
            self._contents[row] = content or None
        return [
            {
                "folder": self._folder,
                "path": self._paths[row],
                "stamp": self._stamps[row],
                "content": content,
                "reason": reasons.get(row),
            }
            for row, content in zip(batch.rows, batch.contents, strict=True)
        ]

    def stored(self, store: EmbeddingStore) -> StoredSet:
        """Where the images are kept, now that every one is known."""
        good = [row for row in range(len(self._paths)) if row not in self._reasons]
        contents = pa.array([self._contents[row] for row in good], pa.binary(HASH_BYTES))
        kept = store.rows_of(contents)
        if (kept < 0).any():
            lost = self._paths[good[int(np.argmin(kept))]]
            raise RuntimeError(f"{lost} and {(kept < 0).sum() - 1} others were not embedded")
        bad = (BadImage(self._paths[row], why) for row, why in self._reasons.items())
        return StoredSet(
            np.array(good, dtype=np.int64),
            kept,
            tuple(sorted(bad, key=lambda image: image.path)),
        )
