"""How good a network is on people it never saw: ranking across cameras, and attributes."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.data.attribute_schema import UNKNOWN, AttributeSchema
from reidray.data.images.crops import CropReader, Indices
from reidray.data.images.transforms import image_tensor
from reidray.data.manifest import Manifest
from reidray.metrics import evaluate
from reidray.metrics.attribute_metrics import attribute_accuracy
from reidray.metrics.protocols import ProtocolName
from reidray.metrics.subgroups import subgroup_metrics
from reidray.training.tasks.reid.validation_queries import RankingPlan, plan_ranking

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
        protocol: of their ranking; by default that of `default_protocol`.
    """

    rows: NDArray[np.int64]
    people: NDArray[np.int64]
    cameras: NDArray[np.int64]
    codes: NDArray[np.int8]
    schema: AttributeSchema
    protocol: ProtocolName | None = None

    def take(self, keep: NDArray[np.bool_]) -> "LabelledCrops":
        """Some of the images."""
        return replace(
            self,
            rows=self.rows[keep],
            people=self.people[keep],
            cameras=self.cameras[keep],
            codes=self.codes[keep],
        )

    def ranking_plan(self) -> RankingPlan:
        """Choose the queries and the gallery among the images."""
        return plan_ranking(self.people, self.cameras, self.protocol)


def label_crops(
    manifest: Manifest, split: str, protocol: ProtocolName | None = None
) -> LabelledCrops:
    """Return what a manifest says of the images of a split, which show known people."""
    rows = np.flatnonzero(pa.compute.equal(manifest.table["split"], split).to_numpy())
    table = manifest.table.take(rows)
    columns = [table[column].to_numpy() for column in manifest.schema.columns]
    return LabelledCrops(
        rows=rows.astype(np.int64),
        people=table["person"].to_numpy().astype(np.int64),
        cameras=table["camera"].fill_null(UNKNOWN).to_numpy().astype(np.int64),
        codes=np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), dtype=np.int8),
        schema=manifest.schema,
        protocol=protocol,
    )


def embed(
    network: nn.Module, source: CropReader, rows: Indices, device: torch.device
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


def evaluate_validation(
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
        by gender and age of `subgroup_metrics`, and where attributes are predicted their accuracies
        beside the majority's.
    """
    plan = truth.ranking_plan()
    is_query = plan.queries
    ranking = evaluate(
        embeddings[torch.from_numpy(is_query)],
        embeddings[torch.from_numpy(plan.gallery)],
        truth.people[is_query],
        truth.people[plan.gallery],
        truth.cameras[is_query],
        truth.cameras[plan.gallery],
        metric=metric,
        protocol=plan.protocol,
    )
    figures: dict[str, Any] = {"mean_ap": ranking.mean_ap, "mean_inp": ranking.mean_inp}
    figures |= {f"rank{rank}": float(ranking.cmc[rank - 1]) for rank in RANKS}
    figures |= {"protocol": str(ranking)} | subgroup_metrics(
        ranking.average_precision,
        ranking.first_match_rank,
        truth.people[is_query],
        truth.codes[is_query],
        truth.schema,
    )
    if predicted.shape[1]:
        figures |= attribute_accuracy(predicted, truth.codes, truth.schema, majority)
    return figures
