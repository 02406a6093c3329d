"""Rank the images of nights whose embeddings are given, without files, a network or Ray."""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reidray.config.scoring import ScoreConfig
from reidray.data.listing.image_listing import SCHEMA, ImageListing, ListingShard
from reidray.inference.distributed.task_runner import LocalTasks
from reidray.inference.predictions import PredictionShape
from reidray.scoring.gallery_ranking import rank_gallery
from reidray.scoring.stages.located_images import locate_images
from reidray.scoring.stages.missing_images import look_up_images
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.replaced_embeddings import remove_replaced
from reidray.scoring.store.embedding_store import EmbeddingStore, open_parts
from reidray.storage.location import Location
from support.store_rows import append_rows, find_stored

SHAPE = PredictionShape(2, 1)
BAD = None
"""In place of an embedding: the image does not decode."""


@dataclass(frozen=True)
class RankedNight:
    """Hold the lines of a night.

    Attributes:
        lines: its lines.
        alone: those of a search of the whole gallery.
        num_searched: number of queries that were compared with the whole gallery.
        changes: what differs from the images of the night before.
    """

    lines: bytes
    alone: bytes
    num_searched: int
    changes: Any


def rank_night(uri, work, night, *, shard_rows=5, full=False, **options):
    """Rank the images of a night with the ranking that a store keeps, and without.

    Args:
        uri: the store.
        work: an empty folder.
        night: `{"query": {path: embedding}, "gallery": {path: embedding}}`, `BAD` for one of them.
        shard_rows: images of a shard of a listing.
        full: whether to embed all images again.
        options: of the `ScoreConfig`.
    """
    work = Location(str(work))
    folders = {"query": "/queries", "gallery": "/gallery"}
    listings = {
        role: _write_listing(folders[role], work, role, sorted(images), shard_rows)
        for role, images in night.items()
    }
    config = ScoreConfig(
        model="m", queries="/queries", gallery="/gallery", output="out", store=uri, **options
    )
    metric = config.metric or "euclidean"
    with open_parts(uri) as parts:
        store = EmbeddingStore(parts, "m", SHAPE, replace_existing=full)
        for role, images in night.items():
            _embed(store, folders[role], images)
        images, runner = NightlyImages(listings, store.contents, work), LocalTasks()
        shards = look_up_images(runner, images, runner.share(None))
        located = locate_images(runner, images, shards, ())
        ranked = rank_gallery(runner, images, located, config, metric, store.rankings)
        lines = _read_lines(ranked, work)
        alone = rank_gallery(runner, images, located, config, metric, None)
        remove_replaced(runner, store)
        if ranked.kept is not None:
            store.keep_ranking(ranked.kept)
    return RankedNight(lines, _read_lines(alone, work), ranked.num_searched, ranked.changes)


def _read_lines(ranked, work):
    return b"".join(work.read_bytes(block.file) for block in ranked.blocks)


def _write_listing(folder, work, role, paths, shard_rows):
    shards = []
    for first in range(0, len(paths), shard_rows):
        names, file, data = paths[first : first + shard_rows], f"{role}-{first}", io.BytesIO()
        columns = {"path": names, "stamp": [""] * len(names)}
        pq.write_table(pa.table(columns, schema=SCHEMA), data)
        work.write_bytes(file, data.getvalue())
        shards.append(ListingShard(file, first, len(names), names[0], names[-1]))
    return ImageListing(Location(folder), work, tuple(shards), {})


def _embed(store, folder, images):
    """Append what the store lacks, as a nightly run that reads all files does."""
    digests = {path: _digest(embedding) for path, embedding in images.items()}
    known = find_stored(store, list(digests.values()))
    lacking = {digest for digest, place in zip(digests.values(), known, strict=True) if not place}
    lacking -= {_digest(BAD)}
    first, others = [], []
    for path, embedding in images.items():
        row = (folder, path, "", digests[path], "bad" if embedding is BAD else None)
        if digests[path] in lacking:
            lacking.remove(digests[path])
            first.append((row, embedding))
        else:
            others.append(row)
    predictions = store.shape.empty(len(first))
    predictions.embeddings[:] = np.reshape([embedding for _, embedding in first], (-1, 2))
    predictions.attribute_labels[:], predictions.uncertainty[:] = 0, 0.5
    append_rows(store, [row for row, _ in first] + others, predictions)


def _digest(embedding):
    return hashlib.sha256(repr(embedding).encode()).digest()
