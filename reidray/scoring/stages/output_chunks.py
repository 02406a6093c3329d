"""Write the files of a nightly run in chunks, one for each shard, and join them in order."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.decoding import BadImage
from reidray.data.reading.annotations import annotation_lines
from reidray.inference.runs.quarantine import write_quarantine
from reidray.retrieval.neighbours import Neighbours
from reidray.scoring.ranking_file import write_ranking
from reidray.scoring.stages.gallery_neighbours import GalleryNeighbours
from reidray.scoring.stages.located_images import (
    LocatedShard,
    read_predictions_of,
    read_rows_of,
)
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.query_blocks import QueryBlock
from reidray.storage.local_disk import naming_file
from reidray.storage.location import Location


def write_nearest(
    block: QueryBlock,
    images: NightlyImages,
    gallery: Sequence[LocatedShard],
    nearest: Neighbours,
    metric: str,
    max_distance: float | None,
) -> int:
    """Write the nearest gallery images of a block of queries (see `write_ranked`).

    Args:
        block: the queries, M of which decode.
        images: the images of the run.
        gallery: the shards of the gallery.
        nearest: the neighbours of the M queries, with positions in the listing of the gallery.
        metric: distance between embeddings.
        max_distance: largest distance of a gallery image; None for any.
    """
    _, positions = nearest.to_distances(metric, max_distance)
    return write_ranked(block, images, gallery, positions)


def write_ranked(
    block: QueryBlock,
    images: NightlyImages,
    gallery: Sequence[LocatedShard],
    positions: NDArray[np.int64],
) -> int:
    """Write the lines of a block of queries into its working file.

    Args:
        block: the queries, M of which decode.
        images: the images of the run.
        gallery: the shards of the gallery.
        positions: (M, k) int64, positions of gallery images in their listing, best first; -1 for
            none.

    Returns:
        The number of queries without a gallery image.
    """
    names = _read_names(images, gallery, positions)
    rows = block.read_rows(images)
    queries = images.read_paths(block.located.shard)
    queries = queries.slice(block.start, block.stop - block.start).to_pylist()
    ranked: dict[str, Sequence[str]] = dict.fromkeys(queries, ())
    first = images.shard(block.located.shard).first + block.start
    for query, found in zip((rows.positions - first).tolist(), names, strict=True):
        ranked[queries[query]] = found
    images.work.write_bytes(block.file, write_ranking(ranked))
    return sum(not found for found in ranked.values())


def write_attribute_chunk(
    located: LocatedShard,
    images: NightlyImages,
    voted: GalleryNeighbours | None,
    keep_missing: bool,
) -> str:
    """Write the attributes of the images of a shard into a working file, and return its name.

    Args:
        located: the shard.
        images: the images of the run.
        voted: the files of the votes on attributes; None for the attributes of the store.
        keep_missing: whether an image that does not decode has a row, with None for labels.
    """
    rows = read_rows_of(images, located)
    found = (
        read_predictions_of(images, rows, ["codes"]).attribute_labels
        if voted is None
        else voted.read_votes(images, located)
    )
    places = rows.positions - images.shard(located.shard).first
    paths = images.read_paths(located.shard)
    known = np.zeros(len(paths), bool)
    known[places] = True
    labels = np.zeros((len(paths), found.shape[1]), np.int64)
    labels[places] = found
    shown = np.ones(len(paths), bool) if keep_missing else known
    lines = annotation_lines(paths.filter(shown).to_pylist(), labels[shown], known[shown])
    return _write_chunk(images, located, "attributes", lines)


def write_quarantine_chunk(located: LocatedShard, images: NightlyImages) -> str:
    """Write the bad images of a shard into a working file, and return its name."""
    reasons = images.read_table(located.file, ["reason"])["reason"]
    is_bad = reasons.is_valid()
    paths = images.read_paths(located.shard).filter(is_bad).to_pylist()
    bad = zip(paths, reasons.filter(is_bad).to_pylist(), strict=True)
    rows = [BadImage(path, reason) for path, reason in bad]
    data = write_quarantine({located.shard.role: rows})
    return _write_chunk(images, located, "quarantine", data[data.index(b"\n") + 1 :])


def join_chunks(work: Location, chunks: Iterable[str], file: Path, header: bytes = b"") -> None:
    """Join working files to one file, and read a few of them at a time.

    Args:
        work: folder of the working files.
        chunks: their names, in order.
        file: the file to write.
        header: the beginning of the file.
    """
    with naming_file(file), file.open("wb") as target:
        target.write(header)
        for chunk in chunks:
            if work.is_remote:
                target.write(work.read_bytes(chunk))
                continue
            with Path(work.path, chunk).open("rb") as source:
                shutil.copyfileobj(source, target)


def _write_chunk(images: NightlyImages, located: LocatedShard, kind: str, data: bytes) -> str:
    """Write lines of a CSV file, without the names of the columns, into a working file."""
    name = f"{kind}/{located.shard.role}-{located.shard.number:06d}.csv"
    images.work.write_bytes(name, data)
    return name


def _read_names(
    images: NightlyImages, gallery: Sequence[LocatedShard], positions: NDArray[np.int64]
) -> list[list[str]]:
    """Return the paths of gallery images by their positions in the listing, without -1.

    Args:
        images: the images of the run.
        gallery: the shards of the gallery.
        positions: (M, k) int64, -1 where there is no image.
    """
    wanted = np.unique(positions[positions >= 0])
    found = []
    for located in gallery:
        shard = images.shard(located.shard)
        start, end = np.searchsorted(wanted, [shard.first, shard.first + shard.rows])
        if start < end:
            paths = images.read_paths(located.shard)
            found.append(paths.take(pa.array(wanted[start:end] - shard.first)).combine_chunks())
    names = pa.concat_arrays(found).to_pylist() if found else []
    places = np.searchsorted(wanted, positions)
    return [
        [names[place] for place, position in zip(row, of_row, strict=True) if position >= 0]
        for row, of_row in zip(places.tolist(), positions.tolist(), strict=True)
    ]
