"""Write the embeddings of images into a store, in any process, which need not import PyTorch."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from reidray.inference.distributed.prediction_rows import TIMING, sum_timing
from reidray.inference.predictions import LoopTiming
from reidray.scoring.stages.located_images import UNREADABLE_SCHEMA
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.store.part_file import PartRows, PartSummary, rows_of_today
from reidray.scoring.store.part_storage import Part, PartFolder
from reidray.storage.retries import retry_count


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


def write_file(rows: pa.Table, images: NightlyImages) -> str:
    """Write rows into a file of the store, which does not belong to it yet; return the receipt."""
    retries_before = retry_count()
    part, written = split_rows(rows, images)
    if part is not None:
        storage = images.contents.storage
        assert isinstance(storage, PartFolder)
        file = replace(storage.write_file(part.to_parquet()), summary=part.summary)
        written = replace(written, file=file)
    num_retries = written.num_retries + retry_count() - retries_before
    return replace(written, num_retries=num_retries).to_text()


def split_rows(rows: pa.Table, images: NightlyImages) -> tuple[PartRows | None, WrittenRows]:
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
