"""Delete the embeddings that a run with `full` has replaced, in groups of parts.

Tasks write the images that stay into files. Only this process, which has the lock of the store,
commits the files and empties the parts.
"""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from reidray.inference.distributed.task_runner import TaskRunner
from reidray.scoring.stages.missing_images import group_by_count, group_parts
from reidray.scoring.store.embedding_store import EmbeddingStore
from reidray.scoring.store.part_file import IMAGES_SCHEMA, PartRows, read_rows
from reidray.scoring.store.part_storage import Part, PartFolder
from reidray.scoring.store.stored_images import StoreContents, find_digests, summary_of

GROUP_ROWS = 1_000_000
"""Images whose digests are searched together, in 32 MB of each task."""


def remove_replaced(runner: TaskRunner, store: EmbeddingStore) -> None:
    """Delete what a store held of its model before it was opened with `replace_existing`.

    An image stays where another model has an embedding of the same content. All kept rankings are
    deleted before, as they name images and their places.

    Args:
        runner: runs the tasks.
        store: the store.

    Raises:
        UserError: another run writes the store.
    """
    contents = store.replaced
    if contents.parts:
        store.remove_rankings()
    own, others = [], []
    for index, part in enumerate(contents.parts):
        if summary_of(part).model == contents.embedding_id:
            own.append(index)
        elif summary_of(part).num_embedded:
            others.append(index)
    shared = runner.share(contents)

    def count_rows(index: int) -> int:
        return summary_of(contents.parts[index]).num_rows

    for group in group_by_count(own, count_rows, GROUP_ROWS):
        digests = runner.collect(_read_digests, group, shared, merge=_merge)
        kept = runner.collect(_find_embedded, group_parts(others), shared, digests, merge=_merge)
        files = [file for file in runner.run(_write_kept, group, shared, kept) if file is not None]
        if files:
            store.commit(files)
        for index in group:
            contents.storage.replace(contents.parts[index], b"")


def _merge(digests: Sequence[pa.Array]) -> pa.Array:
    return pa.concat_arrays(digests).unique()


def _read_digests(index: int, contents: StoreContents) -> pa.Array:
    return _read(contents, index, ["content"]).table["content"].combine_chunks()


def _find_embedded(parts: Sequence[int], contents: StoreContents, digests: pa.Array) -> pa.Array:
    """Return those of some digests that some parts have an embedding of."""
    return find_digests(contents, parts, digests)["content"].combine_chunks()


def _write_kept(index: int, contents: StoreContents, kept: pa.Array) -> Part | None:
    """Write the images of a part that stay into a file; return None where there is none."""
    rows = _read(contents, index, IMAGES_SCHEMA.names)
    left = rows.where(pc.is_in(rows.table["content"].combine_chunks(), kept))
    if not len(left.table):
        return None
    assert isinstance(contents.storage, PartFolder)
    return replace(contents.storage.write_file(left.to_parquet()), summary=left.summary)


def _read(contents: StoreContents, index: int, columns: Sequence[str]) -> PartRows:
    rows = contents.storage.read(contents.parts[index], lambda file: read_rows(file, columns))
    assert isinstance(rows, PartRows)
    return rows
