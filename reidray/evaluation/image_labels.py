"""Hold labels of query and gallery images, and find the protocol and the matches for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.config.scoring import ProtocolName
from reidray.errors import UserError
from reidray.metrics.protocols import GroundTruth, build_ground_truth, default_protocol


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """Hold the labels of N images.

    Attributes:
        person_ids: (N,) int64.
        camera_ids: (N,) int64; None where a camera is unknown.
        names: N file names; None where they are unknown.
    """

    person_ids: NDArray[np.int64]
    camera_ids: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.person_ids)

    def take(self, indices: NDArray[np.int64]) -> "ImageLabels":
        """Return the labels of some of the images.

        Args:
            indices: (M,) int64.
        """
        return ImageLabels(
            self.person_ids[indices],
            None if self.camera_ids is None else self.camera_ids[indices],
            None if self.names is None else tuple(self.names[index] for index in indices),
        )


def check_split_labels(table: pa.Table, split: str, root: str) -> pa.Table:
    """Check that each image of a split has a person id, and return the images.

    Args:
        table: the rows of the split in a manifest.
        split: `query` or `gallery`.
        root: root of the manifest, for the message of an error.

    Raises:
        UserError: the split has no images, or an image without a person id.
    """
    if not table.num_rows:
        raise UserError(f"{root}: has no {split} images; evaluation needs query and gallery")
    unknown = table.filter(table["person"].is_null())["path"]
    if 0 < len(unknown) < table.num_rows:
        raise UserError(
            f"{root}: the person on {len(unknown)} of {table.num_rows} {split} images is unknown "
            f"(the first is {unknown[0].as_py()!r}); give the person id, -1 for junk or 0 for a "
            "distractor, or leave these images out"
        )
    if len(unknown):
        raise UserError(
            f"{root}: the people on its {split} images are unknown; score them with score_nightly "
            "and evaluate the files with `ranking` and `truth`"
        )
    return table


def read_labels(table: pa.Table) -> ImageLabels:
    """Return the labels of images of a manifest; camera ids only if every camera is known."""
    cameras = table["camera"]
    return ImageLabels(
        person_ids=table["person"].to_numpy(),
        camera_ids=None if cameras.null_count else cameras.to_numpy().astype(np.int64),
        names=tuple(table["path"].to_pylist()),
    )


def choose_protocol(query: ImageLabels, gallery: ImageLabels) -> ProtocolName:
    """Return the protocol for labels where the user chooses none (see `default_protocol`)."""
    return default_protocol(
        query.person_ids, gallery.person_ids, query.camera_ids, gallery.camera_ids
    )


def label_ground_truth(
    query: ImageLabels, gallery: ImageLabels, protocol: str, source: str
) -> GroundTruth:
    """Return the matches of each query under a protocol.

    Args:
        query: labels of the queries.
        gallery: labels of the gallery.
        protocol: name of the protocol.
        source: origin of the labels, for the message of an error.

    Raises:
        UserError: the labels do not fit the protocol, or no query has a match.
    """
    with user_errors_about(source):
        return build_ground_truth(
            query.person_ids,
            gallery.person_ids,
            query.camera_ids,
            gallery.camera_ids,
            protocol,
            (len(query), len(gallery)),
        )


@contextmanager
def user_errors_about(source: str) -> Iterator[None]:
    """Turn a `ValueError` about arrays into a `UserError` about their origin."""
    try:
        yield
    except ValueError as error:
        # The message names arguments, but the query and the gallery come from the source.
        raise UserError(f"{source}: {error}".replace("`", "")) from error
