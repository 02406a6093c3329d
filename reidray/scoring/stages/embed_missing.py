"""Embed the missing images of a nightly run, and write them into the store as they come."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from reidray.inference.distributed.prediction_rows import TIMING, prediction_rows, sum_timing
from reidray.inference.distributed.task_runner import Shared
from reidray.inference.image_batches import BATCH_SIZE, ImageBatch
from reidray.inference.predictions import LoopTiming
from reidray.inference.runs.embedding_engine import EmbedBatches
from reidray.inference.runs.run_timing import Throughput
from reidray.models import LoadedModel
from reidray.progress import Counter
from reidray.scoring.stages.located_images import UNREADABLE_SCHEMA
from reidray.scoring.stages.missing_images import (
    LookedUpShard,
    batch_of,
    count_missing,
    iter_batches,
)
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.store.embedding_store import EmbeddingStore
from reidray.scoring.store.part_file import PartRows, PartSummary, rows_of_today
from reidray.scoring.store.part_storage import Part, PartFolder
from reidray.storage.retries import retry_count

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

    def add(self, written: "WrittenRows") -> None:
        """Add the counts of some rows."""
        self.num_embedded += written.num_embedded
        self.num_retries += written.num_retries
        if written.unreadable is not None:
            self.unreadable = (*self.unreadable, written.unreadable)


@dataclass(frozen=True)
class WrittenRows:
    """Hold the receipt of rows that are written.

    Attributes:
        file: the file of a store, which a commit lists; None where there is none.
        unreadable: name of the working file of images whose files cannot be read; None where all
            can.
        num_images: number of images.
        num_embedded: number of images with an embedding.
        num_retries: requests to an object store that were sent again.
        timing: time of the forward passes.
    """

    file: Part | None
    unreadable: str | None
    num_images: int
    num_embedded: int
    num_retries: int
    timing: LoopTiming

    def to_text(self) -> str:
        """Return the receipt as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the receipt that `to_text` wrote."""
        values = json.loads(text)
        values["timing"] = LoopTiming(**values["timing"])
        if values["file"] is not None:
            summary = PartSummary(**values["file"].pop("summary"))
            values["file"] = Part(**values["file"], summary=summary)
        return cls(**values)


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
    from reidray.inference.distributed.ray_data_engine import EmbeddingWork  # imports Ray

    num_images = count_missing(shards)
    work = EmbeddingWork(
        items=_slices(shards, _item_length(num_images, num_workers)),
        read=partial(_read_slice, images=images),
        write=partial(_write_file, images=images),
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
    part, written = _split_rows(rows, images)
    if part is not None:
        store.append(part)
    return written


def _write_file(rows: pa.Table, images: NightlyImages) -> str:
    """Write rows into a file of the store, which does not belong to it yet; return the receipt."""
    retries_before = retry_count()
    part, written = _split_rows(rows, images)
    if part is not None:
        storage = images.contents.storage
        assert isinstance(storage, PartFolder)
        file = replace(storage.write_file(part.to_parquet()), summary=part.summary)
        written = replace(written, file=file)
    num_retries = written.num_retries + retry_count() - retries_before
    return replace(written, num_retries=num_retries).to_text()


def _split_rows(rows: pa.Table, images: NightlyImages) -> tuple[PartRows | None, WrittenRows]:
    """Return the rows that a store keeps, and write the others into a working file.

    A file that cannot be read has no digest, so that the store cannot know it again.
    """
    readable = rows["content"].is_valid()
    unreadable, others = None, rows.filter(pc.invert(readable))
    if len(others):
        table = others.select(UNREADABLE_SCHEMA.names).cast(UNREADABLE_SCHEMA)
        unreadable = images.write_table(f"unreadable/{uuid4().hex}.parquet", table)
    written = WrittenRows(
        None,
        unreadable,
        len(rows),
        len(rows) - rows["embedding"].null_count,
        pc.sum(rows[TIMING[0]]).as_py() or 0,
        sum_timing(rows),
    )
    kept = rows.filter(readable)
    if not len(kept):
        return None, written
    folders = pa.array([images.folder(role) for role in images.listings])
    roles = pc.index_in(kept["role"], value_set=pa.array(list(images.listings)))
    table = kept.drop_columns(["role", *TIMING]).add_column(0, "folder", folders.take(roles))
    return rows_of_today(table, images.contents.embedding_id), written


def _item_length(num_images: int, num_workers: int) -> int:
    """Return the number of images of a piece of work, a multiple of a batch."""
    batches = -(-num_images // (BATCH_SIZE * num_workers * ITEMS_PER_WORKER))
    return min(PART_ROWS, BATCH_SIZE * max(1, batches))


@dataclass(frozen=True)
class _Slice:
    """Name a range of the images to embed of a shard."""

    shard: LookedUpShard
    start: int
    stop: int


def _slices(shards: Sequence[LookedUpShard], length: int) -> tuple[_Slice, ...]:
    return tuple(
        _Slice(each, start, min(start + length, each.num_missing))
        for each in shards
        for start in range(0, each.num_missing, length)
    )


def _read_slice(item: _Slice, images: NightlyImages) -> Iterator[ImageBatch]:
    """Yield the batches of a range of rows."""
    table = images.read_table(item.shard.missing_file).slice(item.start, item.stop - item.start)
    for start in range(0, len(table), BATCH_SIZE):
        yield batch_of(images, item.shard.shard.role, table.slice(start, BATCH_SIZE))
