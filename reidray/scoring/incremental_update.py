"""Find the images of a nightly run that a store does not know, and add them to the store."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.decoding import BadImage
from reidray.inference.image_batches import DIGEST_BYTES, BatchPredictions, ImageSet
from reidray.inference.predictions import Predictions, concatenate
from reidray.scoring.store.embedding_store import EmbeddingStore, find_known_files
from reidray.scoring.store.part_file import IMAGES_SCHEMA

PART_ROWS = 8192
"""Images whose embeddings are written together. A run that is killed loses fewer than these."""


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Hold the places of the images of a set in a store.

    Attributes:
        images: the image set.
        indices: (M,) int64 ascending, indices in the paths of the set of the images that decode.
        rows: (M,) int64, the rows of these images in the store.
        bad: the images that do not decode, sorted by path.
    """

    images: ImageSet
    indices: NDArray[np.int64]
    rows: NDArray[np.int64]
    bad: tuple[BadImage, ...]

    @property
    def paths(self) -> list[str]:
        """Return the paths of the M images that decode."""
        return [self.images.paths[index] for index in self.indices]


class KnownImages:
    """Hold the known facts of each image of a set: the digest of its file, or why it is bad.

    Attributes:
        images: the image set.
    """

    def __init__(self, images: ImageSet, store: EmbeddingStore) -> None:
        """Look up the images of a set in a store.

        Args:
            images: the image set.
            store: opened with the folder of the set.
        """
        self.images = images
        self._folder = folder_of(images)
        # Only a later run compares stamps. In a bucket they take one more listing.
        self._stamps = [""] * len(images.paths)
        if not store.is_temporary:
            self._stamps = images.location.read_stamps(images.paths)
        known = find_known_files(
            store.images_in(self._folder),
            pa.array(images.paths),
            pa.array(self._stamps, pa.string()),
        )
        self._digests: list[bytes | None] = known.digests.to_pylist()
        self._reasons: dict[int, str] = {
            index: known.reasons[index].as_py()
            for index in np.flatnonzero(known.reasons.is_valid()).tolist()
        }

    def missing(self, store: EmbeddingStore) -> NDArray[np.int64]:
        """Return the indices, ascending, of the images that have to be embedded."""
        missing = store.find_rows(pa.array(self._digests, pa.binary(DIGEST_BYTES))) < 0
        missing[list(self._reasons)] = False
        return np.flatnonzero(missing)

    def record(self, result: BatchPredictions) -> list[dict[str, object]]:
        """Record the digests of a batch, and the images of it that are bad.

        Returns:
            A row of `IMAGES_SCHEMA` for each image; its digest is empty where the file cannot be
            read.
        """
        rows: list[dict[str, object]] = []
        for position, index in enumerate(result.batch.indices):
            digest, reason = result.digests[position], result.bad.get(position)
            self._digests[index] = digest or None
            if reason is not None:
                self._reasons[index] = reason
            rows.append(
                {
                    "folder": self._folder,
                    "path": self.images.paths[index],
                    "stamp": self._stamps[index],
                    "content": digest,
                    "reason": reason,
                }
            )
        return rows

    def locate(self, store: EmbeddingStore) -> StoredImages:
        """Return the place of each image in the store, which has all that decode.

        Raises:
            RuntimeError: an image that decodes has no embedding.
        """
        paths = self.images.paths
        decoded = [index for index in range(len(paths)) if index not in self._reasons]
        digests = [self._digests[index] for index in decoded]
        rows = store.find_rows(pa.array(digests, pa.binary(DIGEST_BYTES)))
        if (rows < 0).any():
            first = paths[decoded[int(np.argmin(rows))]]
            raise RuntimeError(f"{first} and {(rows < 0).sum() - 1} others were not embedded")
        bad = (BadImage(paths[index], reason) for index, reason in self._reasons.items())
        return StoredImages(
            self.images,
            np.array(decoded, dtype=np.int64),
            rows,
            tuple(sorted(bad, key=lambda image: image.path)),
        )


class IncrementalUpdate:
    """Add new embeddings to a store, in parts of at least `PART_ROWS` images.

    A thread writes a part, to a disk or a bucket, while the next images are embedded. Use the
    update as a context manager, which waits for that thread.

    Attributes:
        num_embedded: number of images embedded so far.
        num_retries: requests to an object store that were sent again so far.
    """

    def __init__(self, store: EmbeddingStore, known_images: Iterable[KnownImages]) -> None:
        """Begin an update.

        Args:
            store: the store.
            known_images: the image sets of the run; `add` records what it learns in them.
        """
        self.num_embedded = 0
        self.num_retries = 0
        self._store = store
        self._known_images = {each.images.name: each for each in known_images}
        self._predictions: list[Predictions] = []
        self._embedded: list[dict[str, object]] = []
        self._without_embedding: list[dict[str, object]] = []
        self._writer = ThreadPoolExecutor(1, "parts")
        self._writing: Future[None] | None = None

    def add(self, results: Sequence[BatchPredictions]) -> None:
        """Add the predictions of some batches, and begin to write a part once there are enough.

        Raises:
            UserError: another run writes the store.
        """
        for result in results:
            self.num_retries += result.num_retries
            self.num_embedded += len(result.positions)
            rows = self._known_images[result.batch.set_name].record(result)
            self._predictions.append(result.predictions)
            embedded = result.positions.tolist()
            self._embedded += [rows[position] for position in embedded]
            # A file that cannot be read has no digest, so that the store cannot know it again.
            others = sorted(set(range(len(rows))) - set(embedded))
            self._without_embedding += [rows[each] for each in others if rows[each]["content"]]
            if len(self._embedded) + len(self._without_embedding) >= PART_ROWS:
                self._begin_part()

    def finish(self) -> None:
        """Write the predictions that are not written yet, and wait until all are.

        Raises:
            UserError: another run writes the store.
        """
        self._begin_part()
        self._wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.shutdown()

    def _begin_part(self) -> None:
        """Begin to write a part, once the part before is written."""
        self._wait()
        rows = self._embedded + self._without_embedding
        if rows:
            images = pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
            predictions = concatenate(self._predictions)
            self._writing = self._writer.submit(self._store.append, images, predictions)
        self._predictions, self._embedded, self._without_embedding = [], [], []

    def _wait(self) -> None:
        """Wait until the last part is written, and raise what went wrong."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def folder_of(images: ImageSet) -> str:
    """Return the folder of an image set, as a store names it."""
    return images.location.uri.partition("?")[0]
