"""Compare the outputs of an exported file with those of PyTorch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.errors import UserError
from reidray.export.exported_network import EMBEDDING, MASK, ExportForm, scale_pixels
from reidray.models.networks.network import PixelScaling

BATCH = 32
TOLERANCE = 1e-4
"""Largest difference of an fp32 file, relative to the largest value of an output."""
MIN_SAME_NEAREST = 0.5
"""Least share of the crops whose nearest other crop stays the same, in fp16 and int8."""

OutputArrays = dict[str, NDArray[np.float32]]
RunBatch = Callable[[NDArray[Any]], Sequence[NDArray[np.float32]]]


@dataclass(frozen=True)
class Agreement:
    """Hold how well the outputs of a file agree with those of PyTorch.

    Attributes:
        crops: number of crops that were compared.
        difference: largest difference, relative to the largest value of the output.
        same_nearest: share of the crops whose nearest other crop is the same; None without
            embeddings.
        same_values: share of the attributes, or classes, whose most likely value is the same; None
            where there are none.
    """

    crops: int
    difference: float
    same_nearest: float | None
    same_values: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers that exist, by name."""
        found = {
            "compared_crops": self.crops,
            "largest_difference": float(f"{self.difference:.3g}"),
            "same_nearest": self.same_nearest,
            "same_values": self.same_values,
        }
        return {key: value for key, value in found.items() if value is not None}


def prepare_images(
    crops: NDArray[np.uint8], form: ExportForm, scaling: PixelScaling
) -> NDArray[Any]:
    """Return crops (N, H, W, 3) uint8 RGB as a file of this form takes them: (N, 3, H, W)."""
    images = np.ascontiguousarray(crops.transpose(0, 3, 1, 2))
    if form.pixels == "uint8":
        return images
    return scale_pixels(torch.from_numpy(images), scaling).numpy()


def compute_outputs(run: RunBatch, images: NDArray[Any], names: Sequence[str]) -> OutputArrays:
    """Return the outputs for images. The first batch is one image: a file takes any number.

    Args:
        run: returns the outputs for a batch.
        images: (N, 3, H, W) images.
        names: names of the outputs.
    """
    bounds = [0, *range(1, len(images), BATCH), len(images)]
    parts = [run(images[start:end]) for start, end in pairwise(bounds)]
    columns = (np.concatenate(each) for each in zip(*parts, strict=True))
    return dict(zip(names, columns, strict=True))


def compare(expected: OutputArrays, found: OutputArrays) -> Agreement:
    """Return the agreement of outputs with those of PyTorch."""
    differences = [
        float(np.abs(found[name] - values).max() / max(np.abs(values).max(), 1e-12))
        for name, values in expected.items()
    ]
    values = [name for name in expected if name not in (EMBEDDING, MASK)]
    same = [(expected[name].argmax(1) == found[name].argmax(1)).mean() for name in values]
    nearest = None
    if EMBEDDING in expected:
        nearest = float((_nearest(expected[EMBEDDING]) == _nearest(found[EMBEDDING])).mean())
    return Agreement(
        len(next(iter(expected.values()))),
        max(differences) if np.isfinite(differences).all() else float("inf"),
        nearest,
        float(np.mean(same)) if same else None,
    )


def check_agreement(agreement: Agreement, precision: str) -> None:
    """Check that an fp32 file agrees with PyTorch, and that any other keeps the ranking roughly.

    Raises:
        UserError: it does not.
    """
    limit = TOLERANCE if precision == "fp32" else np.finfo(np.float32).max
    if not agreement.difference <= limit:
        raise UserError(
            f"`output`: the outputs of the file differ from those of PyTorch by "
            f"{agreement.difference:.2g} of the largest value, and {TOLERANCE:g} is allowed in "
            "fp32; nothing was written: another `format` may hold this network"
        )
    if agreement.same_nearest is not None and agreement.same_nearest < MIN_SAME_NEAREST:
        raise UserError(
            f"`precision={precision}` keeps the nearest other crop of {agreement.same_nearest:.0%} "
            f"of {agreement.crops} crops, less than {MIN_SAME_NEAREST:.0%}: nothing was written; "
            "use `precision=fp32`"
        )


def _nearest(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the index of the nearest other row of each row, (N,) int64, by Euclidean distance."""
    rows = embeddings.astype(np.float64)
    squares = (rows**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    nearest: NDArray[np.int64] = distances.argmin(axis=1)
    return nearest
