"""Fit and apply the baselines on a cluster: Ray Data decodes the crops, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.baselines.augmented_copies import AugmentedCopies
from reidray.baselines.pixel_moments import PixelMoments
from reidray.baselines.pixel_projection import PixelProjection
from reidray.cluster_resources import cluster_cpus
from reidray.data.images.decoding import BadImage, decode_files
from reidray.data.ingest.crop_columns import iter_binary_views
from reidray.progress import Counter
from reidray.storage.location import Location

BATCH_SIZE = 256
MAX_TASKS = 16
BLOCKS_PER_CPU = 4


@dataclass(frozen=True, eq=False)
class ImageProjections:
    """Hold the embeddings of the M images that decoded, out of N.

    Attributes:
        indices: (M,) int64 ascending, indices into the N paths.
        embeddings: (M, D) float32.
        bad: Images that did not decode, in the order of their paths.
    """

    indices: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    bad: tuple[BadImage, ...]


def compute_moments(
    location: Location,
    paths: Sequence[str],
    size: tuple[int, int],
    *,
    grey: bool = False,
    copies: AugmentedCopies | None = None,
) -> tuple[PixelMoments, tuple[BadImage, ...]]:
    """Sum the pixel moments of images on a cluster, for `PCABaseline.from_moments`.

    Each of at most `MAX_TASKS` tasks decodes its share batch by batch and returns its sums: 302 MB
    for colour crops of 64x32 pixels, and twice that while it works, for any number of images. The
    sums are the same bits for any number of tasks. Ray is connected.

    Args:
        location: Root of the paths.
        paths: Paths of the images.
        size: Height and width of a crop in pixels.
        grey: Whether to use luminance instead of colours.
        copies: Augmented copies of the images, to sum instead of the images.

    Returns:
        The moments, and the images that did not decode, in the order of their paths.

    Raises:
        ValueError: Crops of this size have too many pixels.
    """
    moments = PixelMoments(size, grey=grey)
    tasks = min(max(cluster_cpus(), 1), MAX_TASKS)
    plan = _plan(paths, per_row=max(1, -(-len(paths) // tasks)))
    dataset = ray.data.from_arrow(plan).map_batches(
        _sum_images,
        fn_kwargs={"location": location, "size": size, "grey": grey, "copies": copies},
        batch_size=None,
        batch_format="pyarrow",
    )
    bad: list[BadImage] = []
    with Counter("summing pixels", total=len(paths), unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            columns = (iter_binary_views(table[name]) for name in ("sums", "products"))
            for row, (sums, products) in enumerate(zip(*columns, strict=True)):
                count = table["count"][row].as_py()
                square = products.view(np.float64).reshape(moments.products.shape)
                moments.merge(count, sums.view(np.float64), square)
                failed = _bad_images(table, row)
                bad += failed
                counter.advance(count + len(failed))
    return moments, tuple(sorted(bad, key=lambda image: image.path))


def project_images(
    baseline: PixelProjection, location: Location, paths: Sequence[str]
) -> ImageProjections:
    """Embed images by a baseline on a cluster.

    The order of the paths alone decides which images share a matrix product, so the embeddings are
    the same for any number of workers. Ray is connected.

    Args:
        baseline: Projection to apply.
        location: Root of the paths.
        paths: Paths of the N images.
    """
    embeddings = np.empty((len(paths), len(baseline.components)), np.float32)
    decoded = np.zeros(len(paths), np.bool_)
    bad: list[BadImage] = []
    dataset = ray.data.from_arrow(_plan(paths, per_row=BATCH_SIZE)).map_batches(
        _project_images,
        fn_kwargs={"location": location, "baseline": ray.put(baseline)},
        batch_size=None,
        batch_format="pyarrow",
    )
    with Counter("projecting", total=len(paths), unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row, values in enumerate(iter_binary_views(table["embeddings"])):
                kept = table["kept"][row].as_py()
                embeddings[kept] = values.view(np.float32).reshape(len(kept), -1)
                decoded[kept] = True
                failed = _bad_images(table, row)
                bad += failed
                counter.advance(len(kept) + len(failed))
    indices = np.flatnonzero(decoded)
    return ImageProjections(
        indices, embeddings[indices], tuple(sorted(bad, key=lambda image: image.path))
    )


def _plan(paths: Sequence[str], *, per_row: int) -> list[pa.Table]:
    """Return blocks of rows, each with at most `per_row` paths and the index of the first."""
    rows = [
        {"first": start, "paths": list(paths[start : start + per_row])}
        for start in range(0, len(paths), per_row)
    ]
    table = pa.Table.from_pylist(rows)
    length = max(1, len(rows) // (max(cluster_cpus(), 1) * BLOCKS_PER_CPU))
    return [table.slice(start, length) for start in range(0, len(rows), length)]


def _sum_images(
    plan: pa.Table,
    location: Location,
    size: tuple[int, int],
    grey: bool,
    copies: AugmentedCopies | None,
) -> pa.Table:
    """Return the moments of the images of each row."""
    found = []
    for row in plan.to_pylist():
        moments = PixelMoments(size, grey=grey)
        bad: list[BadImage] = []
        for start in range(0, len(row["paths"]), BATCH_SIZE):
            paths = row["paths"][start : start + BATCH_SIZE]
            decoded = decode_files(location, paths, size)
            crops = decoded.crops
            if copies is not None:
                crops = copies.of(crops, row["first"] + start + np.asarray(decoded.kept, np.int64))
            moments.add(crops)
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


def _project_images(
    plan: pa.Table, location: Location, baseline: "ray.ObjectRef[PixelProjection]"
) -> pa.Table:
    """Return the embeddings of the images of each row."""
    projection = ray.get(baseline)
    found = []
    for row in plan.to_pylist():
        decoded = decode_files(location, row["paths"], projection.scaler.size)
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
