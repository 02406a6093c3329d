"""Embed the missing images of a nightly run, and write them into the store as they come."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from reidray.inference.distributed.prediction_rows import prediction_rows
from reidray.inference.distributed.task_runner import Shared
from reidray.inference.image_batches import BATCH_SIZE
from reidray.inference.runs.embedding_engine import EmbedBatches
from reidray.inference.runs.run_timing import Throughput
from reidray.models import LoadedModel
from reidray.progress import Counter
from reidray.scoring.stages.missing_images import (
    LookedUpShard,
    count_missing,
    iter_batches,
    read_slice,
    slice_missing,
)
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.written_rows import WrittenRows, split_rows, write_file
from reidray.scoring.store.embedding_store import EmbeddingStore
from reidray.scoring.store.part_storage import Part

PART_ROWS = 8192
"""Images whose embeddings are written together, at most. Where this process writes, a run that is
killed loses fewer."""

ITEMS_PER_WORKER = 8
"""Least number of pieces of work for each worker, so that the last ones end together."""

COMMIT_SECONDS = 2.0
"""Seconds between two commits of the files that workers have written."""


@dataclass
class EmbeddingOutcome:
    """Hold the counts of an embedding.

    Attributes:
        throughput: images per second.
        num_embedded: images with a new embedding.
        num_retries: requests to an object store that were sent again.
        unreadable: names of working files of images whose files cannot be read.
    """

    throughput: Throughput = field(default_factory=Throughput)
    num_embedded: int = 0
    num_retries: int = 0
    unreadable: tuple[str, ...] = ()

    def add(self, written: WrittenRows) -> None:
        """Add the counts of some rows."""
        self.num_embedded += written.num_embedded
        self.num_retries += written.num_retries
        if written.unreadable is not None:
            self.unreadable = (*self.unreadable, written.unreadable)


def embed_here(
    embed: EmbedBatches,
    model: LoadedModel,
    images: NightlyImages,
    shards: Sequence[LookedUpShard],
    store: EmbeddingStore,
    keys: Shared,
) -> EmbeddingOutcome:
    """Embed images by an engine whose predictions come to this process, which writes them.

    A thread writes a part, to a disk or a bucket, while the next images are embedded.

    Args:
        embed: the engine.
        model: the model.
        images: the images of the run.
        shards: the images to embed.
        store: the store.
        keys: keys of the digests that need no prediction, or None.

    Raises:
        UserError: another run writes the store.
    """
    outcome, waiting, writing = EmbeddingOutcome(), [], None
    with ThreadPoolExecutor(1, "parts") as writer:
        for results in embed(model, list(iter_batches(images, shards)), keys):
            waiting.append(prediction_rows(results, store.shape))
            outcome.throughput.add_results(results)
            if sum(map(len, waiting)) >= PART_ROWS:
                _finish(writing, outcome)
                writing = writer.submit(_append, pa.concat_tables(waiting), images, store)
                waiting = []
        _finish(writing, outcome)
        if waiting:
            outcome.add(_append(pa.concat_tables(waiting), images, store))
    return outcome


def embed_in_workers(
    embed: Callable[..., Iterator[str]],
    images: NightlyImages,
    shards: Sequence[LookedUpShard],
    store: EmbeddingStore,
    num_workers: int,
) -> EmbeddingOutcome:
    """Embed images by Ray Data, whose workers write files that this process commits.

    Args:
        embed: yields the receipts of an `EmbeddingWork`, and calls `on_progress`.
        images: the images of the run.
        shards: the images to embed.
        store: the store.
        num_workers: number of workers that embed.

    Raises:
        UserError: another run writes the store.
    """
    from reidray.inference.distributed.embedding_work import EmbeddingWork  # imports Ray

    num_images = count_missing(shards)
    work = EmbeddingWork(
        items=slice_missing(shards, _item_length(num_images, num_workers)),
        read=partial(read_slice, images=images),
        write=partial(write_file, images=images),
    )
    outcome, files = EmbeddingOutcome(), _WrittenFiles(store)
    with Counter("embedding", total=num_images, unit="images") as counter:

        def show(count: int) -> None:
            counter.advance(max(0, min(count, num_images) - counter.done))
            files.commit_due()

        for receipt in embed(work, on_progress=show):
            written = WrittenRows.from_text(receipt)
            outcome.add(written)
            outcome.throughput.add(written.num_images, written.timing)
            files.add(written.file)
        files.commit()
        show(num_images)
    return outcome


class _WrittenFiles:
    """Commit the files that workers have written, some of them together."""

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self._pending: list[Part] = []
        self._committed = time.monotonic()

    def add(self, file: Part | None) -> None:
        """Add a file, if there is one."""
        if file is not None:
            self._pending.append(file)
        self.commit_due()

    def commit_due(self) -> None:
        """Commit the files, if the last commit was `COMMIT_SECONDS` ago."""
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Commit the files."""
        if self._pending:
            self._store.commit(self._pending)
            self._pending = []
        self._committed = time.monotonic()


def _finish(writing: Future[WrittenRows] | None, outcome: EmbeddingOutcome) -> None:
    """Wait until a part is written, and raise what went wrong."""
    if writing is not None:
        outcome.add(writing.result())


def _append(rows: pa.Table, images: NightlyImages, store: EmbeddingStore) -> WrittenRows:
    """Write rows into the store as a part."""
    part, written = split_rows(rows, images)
    if part is not None:
        store.append(part)
    return written


def _item_length(num_images: int, num_workers: int) -> int:
    """Return the number of images of a piece of work, a multiple of a batch."""
    batches = -(-num_images // (BATCH_SIZE * num_workers * ITEMS_PER_WORKER))
    return min(PART_ROWS, BATCH_SIZE * max(1, batches))
