"""The baselines over a cluster: Ray Data decodes the crops, no process holds them all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.baselines.pixel_moments import PixelMoments
from reidray.baselines.pixel_projection import PixelProjection
from reidray.cluster_resources import cluster_cpus
from reidray.data.images.decoding import BadImage, decode_files
from reidray.data.ingest.crop_columns import binary_views
from reidray.progress import Counter
from reidray.storage.location import Location

BATCH = 256
MOST_TASKS = 16
BLOCKS_PER_CPU = 4


@dataclass(frozen=True, eq=False)
class ImageProjections:
    """What a baseline says of N images; arrays run over the M that decoded.

    Attributes:
        rows: (M,) int64 ascending, their indices in the paths.
        embeddings: (M, D) float32.
        bad: the images that did not decode, by path.
    """

    rows: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    bad: tuple[BadImage, ...]


def compute_moments(
    location: Location, paths: Sequence[str], size: tuple[int, int], *, grey: bool = False
) -> tuple[PixelMoments, tuple[BadImage, ...]]:
    """Moments of images anywhere, for `PCABaseline.from_moments`. Ray is connected.

    Each of at most `MOST_TASKS` tasks decodes its share batch by batch and sends back its sums: at
    64x32 in colour 302 MB, twice that while it works, whatever the number of images. The result is
    the same bit by bit for any number of tasks.

    Args:
        location: where the paths begin.
        paths: of the images.
        size: height and width of a crop.
        grey: take luminance for colour.

    Returns:
        The moments, and the images that did not decode, by path.

    Raises:
        ValueError: crops of this size have too many pixels.
    """
    moments = PixelMoments(size, grey=grey)
    tasks = min(max(cluster_cpus(), 1), MOST_TASKS)
    plan = _plan(paths, per_row=max(1, -(-len(paths) // tasks)))
    dataset = ray.data.from_arrow(plan).map_batches(
        _sum_images,
        fn_kwargs={"location": location, "size": size, "grey": grey},
        batch_size=None,
        batch_format="pyarrow",
    )
    bad: list[BadImage] = []
    with Counter("summing pixels", total=len(paths), unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            columns = (binary_views(table[name]) for name in ("sums", "products"))
            for row, (sums, products) in enumerate(zip(*columns, strict=True)):
                count = table["count"][row].as_py()
                square = products.view(np.float64).reshape(moments.products.shape)
                moments.merge(count, sums.view(np.float64), square)
                refused = _bad_images(table, row)
                bad += refused
                counter.advance(count + len(refused))
    return moments, tuple(sorted(bad, key=lambda image: image.path))


def project_images(
    baseline: PixelProjection, location: Location, paths: Sequence[str]
) -> ImageProjections:
    """Embeds images anywhere. Ray is connected.

    Which images are multiplied together is planned from their names alone, so that the embeddings
    are the same for any number of workers.

    Args:
        baseline: what embeds.
        location: where the paths begin.
        paths: of the images.
    """
    embeddings = np.empty((len(paths), len(baseline.components)), np.float32)
    decoded = np.zeros(len(paths), np.bool_)
    bad: list[BadImage] = []
    dataset = ray.data.from_arrow(_plan(paths, per_row=BATCH)).map_batches(
        _embed_batches,
        fn_kwargs={"location": location, "baseline": ray.put(baseline)},
        batch_size=None,
        batch_format="pyarrow",
    )
    with Counter("projecting", total=len(paths), unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row, values in enumerate(binary_views(table["embeddings"])):
                kept = table["kept"][row].as_py()
                embeddings[kept] = values.view(np.float32).reshape(len(kept), -1)
                decoded[kept] = True
                refused = _bad_images(table, row)
                bad += refused
                counter.advance(len(kept) + len(refused))
    rows = np.flatnonzero(decoded)
    return ImageProjections(
        rows, embeddings[rows], tuple(sorted(bad, key=lambda image: image.path))
    )


def _plan(paths: Sequence[str], *, per_row: int) -> list[pa.Table]:
    """Rows of at most so many paths, with the index of the first, in blocks for the tasks."""
    rows = [
        {"first": start, "paths": list(paths[start : start + per_row])}
        for start in range(0, len(paths), per_row)
    ]
    table = pa.Table.from_pylist(rows)
    length = max(1, len(rows) // (max(cluster_cpus(), 1) * BLOCKS_PER_CPU))
    return [table.slice(start, length) for start in range(0, len(rows), length)]


def _sum_images(plan: pa.Table, location: Location, size: tuple[int, int], grey: bool) -> pa.Table:
    """The moments of each row's images."""
    found = []
    for row in plan.to_pylist():
        moments = PixelMoments(size, grey=grey)
        bad: list[BadImage] = []
        for start in range(0, len(row["paths"]), BATCH):
            paths = row["paths"][start : start + BATCH]
            decoded = decode_files(location, paths, size)
            moments.add(decoded.crops)
            bad += decoded.bad
        found.append(
            {
                "count": moments.count,
                "sums": moments.sums.tobytes(),
                "products": moments.products.tobytes(),
                **_bad_columns(bad),
            }
        )
    return pa.Table.from_pylist(found, schema=_MOMENTS_SCHEMA)


def _embed_batches(
    plan: pa.Table, location: Location, baseline: "ray.ObjectRef[PixelProjection]"
) -> pa.Table:
    """The embeddings of each row's images."""
    projection = ray.get(baseline)
    found = []
    for row in plan.to_pylist():
        decoded = decode_files(location, row["paths"], projection.scale.size)
        found.append(
            {
                "kept": [row["first"] + index for index in decoded.kept],
                "embeddings": projection.embed(decoded.crops).tobytes(),
                **_bad_columns(decoded.bad),
            }
        )
    return pa.Table.from_pylist(found, schema=_EMBEDDED_SCHEMA)


_BAD_FIELDS = [("bad_paths", pa.list_(pa.string())), ("bad_reasons", pa.list_(pa.string()))]
_MOMENTS_SCHEMA = pa.schema(
    [
        ("count", pa.int64()),
        ("sums", pa.large_binary()),
        ("products", pa.large_binary()),
        *_BAD_FIELDS,
    ]
)
_EMBEDDED_SCHEMA = pa.schema(
    [("kept", pa.list_(pa.int64())), ("embeddings", pa.large_binary()), *_BAD_FIELDS]
)


def _bad_columns(bad: Sequence[BadImage]) -> dict[str, list[str]]:
    return {
        "bad_paths": [image.path for image in bad],
        "bad_reasons": [image.reason for image in bad],
    }


def _bad_images(table: pa.Table, row: int) -> list[BadImage]:
    columns = (table[name][row].as_py() for name in ("bad_paths", "bad_reasons"))
    return [BadImage(path, reason) for path, reason in zip(*columns, strict=True)]
