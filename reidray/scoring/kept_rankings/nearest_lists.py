"""Read, merge and write the nearest gallery images of a block of queries, which a store keeps.

The list of a query begins with its nearest gallery image and ends somewhere: an image that is not
in the list comes after its last one, by distance and then by path. Without the images that are
gone, and with the new ones that come before its last one, it is a list of the new gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.retrieval.neighbours import Neighbours, merge_neighbours
from reidray.scoring.kept_rankings.matched_images import MatchedShard, read_kept
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.query_blocks import QueryBlock
from reidray.scoring.store.described_tables import to_parquet
from reidray.scoring.store.kept_ranking import KeptFile
from reidray.scoring.store.part_storage import PartFolder


@dataclass(frozen=True, eq=False)
class Positions:
    """Hold the positions of U images in two listings.

    Attributes:
        earlier: (U,) int64 ascending, positions in the earlier listing.
        now: (U,) int64 ascending, positions in the listing of this run.
    """

    earlier: NDArray[np.int64]
    now: NDArray[np.int64]

    @staticmethod
    def join(parts: Sequence["Positions"]) -> "Positions":
        """Return the positions of several ranges of images that follow each other."""
        return Positions(
            np.concatenate([part.earlier for part in parts]),
            np.concatenate([part.now for part in parts]),
        )

    def translate(self, earlier: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of images in this run, by those in the earlier one; -1 if gone."""
        places = np.searchsorted(self.earlier, earlier)
        there = np.append(self.earlier, -1)[places] == earlier
        return np.where(there & (earlier >= 0), np.append(self.now, -1)[places], -1)


def read_lists(
    block: QueryBlock, images: NightlyImages, queries: MatchedShard, files: Sequence[KeptFile]
) -> Neighbours:
    """Return the lists of the M queries of a block that decode, with positions of the earlier run.

    Args:
        block: the queries.
        images: the images of the run.
        queries: the shard of the block.
        files: the files with lists of the earlier run.

    Returns:
        Neighbours (M, longest list); the list of a query that is new is empty.
    """
    rows = block.read_rows(images).positions - images.shard(block.located.shard).first
    wanted = queries.read_earlier(images)[rows]
    known = wanted[wanted >= 0]
    found = [
        _read_file(images, file)
        for file in files
        if len(known) and file.first <= known[-1] and known[0] < file.end
    ]
    width = max((lists.keys.shape[1] for _, lists in found), default=0)
    keys, indices = np.full((len(rows), width), np.inf), np.full((len(rows), width), -1)
    for positions, lists in found:
        place = np.searchsorted(positions, wanted)
        there = np.flatnonzero(np.append(positions, -2)[place] == wanted)
        columns = slice(lists.keys.shape[1])
        keys[there, columns] = lists.keys[place[there]]
        indices[there, columns] = lists.indices[place[there]]
    return Neighbours(keys, indices)


def find_positions(
    run: Sequence[MatchedShard], images: NightlyImages, lists: Neighbours
) -> Positions:
    """Return the positions of the images of some shards that are in lists of the earlier run."""
    wanted = np.unique(lists.indices)
    found = [Positions(np.arange(0), np.arange(0))]
    for matched in run:
        earlier = matched.read_earlier(images)
        rows = np.flatnonzero(np.isin(earlier, wanted[wanted >= 0]))
        found.append(Positions(earlier[rows], rows + images.shard(matched.located.shard).first))
    return Positions.join(found)


def merge_lists(
    lists: Neighbours,
    positions: Positions,
    new: Neighbours | None,
    gallery_size: int,
    length: int,
) -> Neighbours:
    """Return lists of the gallery of this run.

    Args:
        lists: lists of the earlier run, (Q, N).
        positions: the positions of the images in them that are still there.
        new: nearest images among those that are new, at least `length` where there are as many;
            None where none is new.
        gallery_size: number of images of the earlier gallery; a list of all of them has no end.
        length: largest length of the lists.
    """
    lengths = count_images(lists)
    last = np.append(np.full((len(lists.keys), 1), -np.inf), lists.keys, axis=1)
    last = np.take_along_axis(last, lengths[:, None], axis=1)
    last[(lengths > 0) & (lengths >= gallery_size)] = np.inf
    now = positions.translate(lists.indices)
    left = Neighbours(np.where(now < 0, np.inf, lists.keys), now)
    merged = merge_neighbours([left] if new is None else [left, new], length)
    # A new image at the distance of the last one may come after images that are not in the list.
    is_listed = np.isin(merged.indices, now)
    inside = (merged.keys < last) | ((merged.keys == last) & is_listed)
    inside &= merged.indices >= 0
    ends = (inside * np.arange(1, inside.shape[1] + 1)).max(axis=1, initial=0)
    beyond = np.arange(inside.shape[1]) >= ends[:, None]
    return Neighbours(np.where(beyond, np.inf, merged.keys), np.where(beyond, -1, merged.indices))


def replace_lists(
    lists: Neighbours, queries: NDArray[np.int64], replacements: Neighbours
) -> Neighbours:
    """Return lists where those of some queries are replaced.

    Args:
        lists: lists of Q queries.
        queries: (R,) indices of the queries to replace.
        replacements: their lists.
    """
    width = max(lists.keys.shape[1], replacements.keys.shape[1])
    keys = np.full((len(lists.keys), width), np.inf)
    indices = np.full((len(lists.keys), width), -1)
    keys[:, : lists.keys.shape[1]], indices[:, : lists.keys.shape[1]] = lists.keys, lists.indices
    keys[queries], indices[queries] = np.inf, -1
    columns = slice(replacements.keys.shape[1])
    keys[queries, columns], indices[queries, columns] = replacements.keys, replacements.indices
    return Neighbours(keys, indices)


def count_images(lists: Neighbours) -> NDArray[np.int64]:
    """Return the number of images of each list."""
    counts: NDArray[np.int64] = (lists.indices >= 0).sum(axis=1)
    return counts


def write_lists(block: QueryBlock, images: NightlyImages, lists: Neighbours) -> KeptFile:
    """Write the lists of the queries of a block that decode into a file of the store."""
    storage = images.contents.storage
    assert isinstance(storage, PartFolder)
    counts = count_images(lists).tolist()
    columns = {
        name: pa.array(
            [
                row[:count].astype(dtype).tobytes()
                for row, count in zip(values, counts, strict=True)
            ],
            pa.large_binary(),
        )
        for name, values, dtype in (("keys", lists.keys, "<f8"), ("images", lists.indices, "<i8"))
    }
    table = pa.table({"query": block.read_rows(images).positions, **columns})
    written = storage.write_file(to_parquet(table, {"keeps": "nearest"}))
    first = images.shard(block.located.shard).first + block.start
    return KeptFile(written.path, written.size, "nearest", first, block.stop - block.start)


def _read_file(images: NightlyImages, file: KeptFile) -> tuple[NDArray[np.int64], Neighbours]:
    """Return the positions of the queries of a file, and their lists."""
    table = read_kept(images, file, ["query", "keys", "images"])
    lengths = np.asarray(pc.binary_length(table["keys"])) // 8
    filled = np.arange(lengths.max(initial=0)) < lengths[:, None]
    keys, indices = np.full(filled.shape, np.inf), np.full(filled.shape, -1)
    keys[filled] = np.frombuffer(b"".join(table["keys"].to_pylist()), "<f8")
    indices[filled] = np.frombuffer(b"".join(table["images"].to_pylist()), "<i8")
    return table["query"].to_numpy(), Neighbours(keys, indices)
