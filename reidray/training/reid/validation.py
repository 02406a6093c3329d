"""How good a network is on people it never saw: ranking across cameras, and attributes."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.accuracy import attribute_accuracy
from reidray.data.attributes import AttributeSchema
from reidray.data.crops import CropSource, Rows
from reidray.data.transforms import image_tensor
from reidray.groups import group_figures
from reidray.retrieval import evaluate

BATCH = 256
RANKS = (1, 5, 10)
Metric = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class LabelledCrops:
    """Images with what is known of them; all arrays run over the same N images.

    Attributes:
        rows: (N,) int64, their rows in the manifest.
        people: (N,) int64.
        cameras: (N,) int64, -1 where unknown.
        codes: (N, A) int8 attribute codes, -1 where unknown.
        schema: the A attributes.
    """

    rows: NDArray[np.int64]
    people: NDArray[np.int64]
    cameras: NDArray[np.int64]
    codes: NDArray[np.int8]
    schema: AttributeSchema

    def take(self, keep: NDArray[np.bool_]) -> "LabelledCrops":
        """Some of the images."""
        return LabelledCrops(
            self.rows[keep],
            self.people[keep],
            self.cameras[keep],
            self.codes[keep],
            self.schema,
        )

    def query_mask(self) -> NDArray[np.bool_]:
        """(N,) bool: the first image of each person in each camera is a query, the rest gallery."""
        _, first = np.unique(np.stack([self.people, self.cameras]), axis=1, return_index=True)
        mask = np.zeros(len(self.rows), dtype=bool)
        mask[first] = True
        return mask

    def protocol(self) -> Literal["market1501", "all"]:
        """`market1501` where somebody is seen by several cameras, else `all`."""
        pairs = np.unique(np.stack([self.people, self.cameras]), axis=1)
        _, cameras = np.unique(pairs[0], return_counts=True)
        return "market1501" if cameras.max() > 1 else "all"


def embed(
    network: nn.Module, source: CropSource, rows: Rows, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Embed images batch by batch.

    Args:
        network: in evaluation mode, on `device`.
        source: has the images.
        rows: (N,) int64, rows of the manifest.
        device: where the network computes.

    Returns:
        Embeddings (N, D) float32 and predicted attribute codes (N, A) int64.
    """
    embeddings, codes = [], []
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    with torch.inference_mode():
        for group in source.read(batches):
            outputs = network(image_tensor(group.crops, device))
            embeddings.append(outputs.embedding)
            predicted = [values.argmax(dim=1) for values in outputs.attributes]
            empty = outputs.embedding.new_zeros((len(outputs.embedding), 0), dtype=torch.int64)
            codes.append(torch.stack(predicted, dim=1) if predicted else empty)
    return torch.cat(embeddings), torch.cat(codes)


def judge(
    embeddings: Tensor,
    predicted: NDArray[np.int64],
    truth: LabelledCrops,
    *,
    majority: NDArray[np.int64],
    metric: Metric,
) -> dict[str, Any]:
    """All figures of a validation.

    Args:
        embeddings: (N, D) float32.
        predicted: (N, A) int64 attribute codes; A is 0 where the network predicts none.
        truth: the N images.
        majority: (A,) int64, what a constant guess would say.
        metric: distance between embeddings.

    Returns:
        `mean_ap`, `mean_inp`, `rank1`, `rank5`, `rank10`, `protocol` (a line that says how), those
        by gender and age of `group_figures`, and where attributes are predicted their accuracies
        beside the majority's.
    """
    is_query = truth.query_mask()
    ranking = evaluate(
        embeddings[torch.from_numpy(is_query)],
        embeddings[torch.from_numpy(~is_query)],
        truth.people[is_query],
        truth.people[~is_query],
        truth.cameras[is_query],
        truth.cameras[~is_query],
        metric=metric,
        protocol=truth.protocol(),
    )
    figures: dict[str, Any] = {"mean_ap": ranking.mean_ap, "mean_inp": ranking.mean_inp}
    figures |= {f"rank{rank}": float(ranking.cmc[rank - 1]) for rank in RANKS}
    figures |= {"protocol": str(ranking)} | group_figures(
        ranking.average_precision,
        ranking.first_match_rank,
        truth.people[is_query],
        truth.codes[is_query],
        truth.schema,
    )
    if predicted.shape[1]:
        figures |= attribute_accuracy(predicted, truth.codes, truth.schema, majority)
    return figures
