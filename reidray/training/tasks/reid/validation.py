"""Evaluate a re-ID network on people that it does not train on."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.config.sections.validation_options import (
    compute_registered_metrics,
    registered_metric_names,
)
from reidray.data.crop_labels import CropLabels
from reidray.data.device_crops import DeviceCrops
from reidray.data.images.crops import Indices
from reidray.inference.inference_settings import Precision
from reidray.metrics import evaluate
from reidray.metrics.attribute_metrics import attribute_accuracy
from reidray.metrics.protocols import ProtocolName
from reidray.metrics.subgroups import subgroup_metrics
from reidray.models.inference_network import copy_for_inference
from reidray.models.networks import Outputs
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.reid.validation_queries import plan_ranking

BATCH_SIZE = 256
RANKS = (1, 5, 10)
RANKING_METRICS = ("mean_ap", "mean_inp", *(f"rank{rank}" for rank in RANKS))
DistanceMetric = Literal["cosine", "euclidean"]


def embed_crops(
    network: nn.Module,
    crops: DeviceCrops,
    indices: Indices,
    precision: Precision = "fp32",
    *,
    with_features: bool = False,
) -> Outputs:
    """Return the outputs of a network for crops, without logits of the training people.

    On a GPU the network computes as in scoring with this precision, but for the size of the batches
    and for the settings of cuDNN, which are those of the training.

    Args:
        network: network in evaluation mode.
        crops: decoded images on the device of the network.
        indices: (N,) int64, rows of the manifest.
        precision: precision on a GPU. A CPU computes in float32.
        with_features: whether to keep the features for losses between images; without, they have no
            column.

    Returns:
        Outputs for N crops, float32, on that device.
    """
    batches = [indices[start : start + BATCH_SIZE] for start in range(0, len(indices), BATCH_SIZE)]
    device = next(network.parameters()).device
    if device.type == "cuda":
        network = copy_for_inference(network, device, precision)
    with torch.inference_mode():
        found: list[tuple[Tensor, ...]] = []
        for batch in crops.read(batches):
            outputs: Outputs = network(batch.images)
            feature = outputs.metric_feature if with_features else outputs.embedding[:, :0]
            found.append((outputs.embedding, feature, *outputs.attributes))
        embedding, feature, *attributes = (
            torch.cat(parts).float() for parts in zip(*found, strict=True)
        )
    return Outputs(embedding, feature, embedding[:, :0], tuple(attributes))


def gather_outputs(outputs: Outputs, context: DistributedContext, total: int) -> Outputs | None:
    """Return the outputs of all ranks on rank 0, on its device; None on the other ranks.

    Args:
        outputs: outputs of `embed_crops` for the images that `DistributedContext.own_share` gives.
        context: this process.
        total: number of images of all ranks.
    """
    parts = (outputs.embedding, outputs.metric_feature, outputs.identity, *outputs.attributes)
    gathered = context.gather_for_metrics(torch.cat(parts, dim=1), total)
    if gathered is None:
        return None
    sizes = [part.shape[1] for part in parts]
    columns = gathered.to(context.device).split_with_sizes(sizes, dim=1)
    embedding, feature, identity, *attributes = (part.contiguous() for part in columns)
    return Outputs(embedding, feature, identity, tuple(attributes))


def predict_attributes(outputs: Outputs) -> NDArray[np.int64]:
    """Return the label of each attribute of N images, (N, A) int64."""
    if not outputs.attributes:
        return np.empty((len(outputs.embedding), 0), dtype=np.int64)
    labels = torch.stack([logits.argmax(dim=1) for logits in outputs.attributes], dim=1)
    return np.asarray(labels.cpu().numpy())


def evaluate_datasets(
    embeddings: Tensor,
    predicted: NDArray[np.int64],
    labels: CropLabels,
    *,
    majority: NDArray[np.int64],
    metric: DistanceMetric,
    protocol: ProtocolName | None = None,
    num_queries: int | None = None,
    top_k: int | None = None,
) -> dict[str, Any]:
    """Compute the validation metrics of N images of one data set, or of several that are joined.

    The queries of each set are ranked against its own gallery.

    Returns:
        The metrics of `evaluate_embeddings`. Of several sets, `datasets` holds those of each by its
        name; the ranking metrics and those of `register_metric` are the means over the sets, the
        attribute accuracy is that of all images, and `dataset` names the set of each group.
    """
    options: dict[str, Any] = {
        "majority": majority,
        "metric": metric,
        "protocol": protocol,
        "num_queries": num_queries,
        "top_k": top_k,
    }
    if not labels.datasets:
        return evaluate_embeddings(embeddings, predicted, labels, **options)
    by_name: dict[str, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    intervals: dict[str, str] = {}
    for name, mask in labels.dataset_masks.items():
        own = embeddings[torch.from_numpy(mask)]
        found = evaluate_embeddings(own, predicted[mask], labels.take(mask), **options)
        groups += [group | {"dataset": name} for group in found.pop("groups", [])]
        intervals |= {key: found.pop(key) for key in ("group_intervals",) if key in found}
        by_name[name] = found
    metrics: dict[str, Any] = {
        key: float(np.mean([found[key] for found in by_name.values()]))
        for key in (*RANKING_METRICS, *registered_metric_names("reid"))
    }
    metrics["protocol"] = f"mean over the data sets {', '.join(by_name)}, each ranked by itself"
    if groups:
        metrics |= {"groups": groups} | intervals
    if predicted.shape[1]:
        metrics |= attribute_accuracy(predicted, labels.attribute_labels, labels.schema, majority)
    return metrics | {"datasets": by_name}


def evaluate_embeddings(
    embeddings: Tensor,
    predicted: NDArray[np.int64],
    labels: CropLabels,
    *,
    majority: NDArray[np.int64],
    metric: DistanceMetric,
    protocol: ProtocolName | None = None,
    num_queries: int | None = None,
    top_k: int | None = None,
) -> dict[str, Any]:
    """Compute the validation metrics of N images from their embeddings and attributes.

    Args:
        embeddings: (N, D) float32.
        predicted: (N, A) int64 attribute labels; A is 0 where the network predicts none.
        labels: true labels of the N images.
        majority: (A,) int64, most frequent label of each attribute in the training images.
        metric: distance between embeddings.
        protocol: protocol of the ranking; by default the one that `plan_ranking` chooses.
        num_queries: number of random queries, as in `plan_ranking`.
        top_k: number of ranks that the average precision counts; by default all.

    Returns:
        `mean_ap`, `mean_inp`, `rank1`, `rank5`, `rank10`; `protocol`, a line that describes the
        protocol; the metrics of `subgroup_metrics`; where the network predicts attributes those of
        `attribute_accuracy`; and those of `register_metric`.
    """
    plan = plan_ranking(labels, protocol, num_queries)
    queries, gallery = plan.queries, plan.gallery
    ranks_all = plan.protocol == "all"
    # With a camera of its own for each image, a query does not see itself and sees all others.
    cameras = np.arange(len(labels)) if ranks_all else labels.camera_ids.astype(np.int64)
    ranking = evaluate(
        embeddings[torch.from_numpy(queries)],
        embeddings[torch.from_numpy(gallery)],
        labels.person_ids[queries],
        labels.person_ids[gallery],
        cameras[queries],
        cameras[gallery],
        metric=metric,
        protocol="market1501" if ranks_all else plan.protocol,
        top_k=top_k,
    )
    ranking = replace(ranking, protocol=plan.protocol)
    metrics: dict[str, Any] = {"mean_ap": ranking.mean_ap, "mean_inp": ranking.mean_inp}
    metrics |= {f"rank{rank}": float(ranking.cmc[rank - 1]) for rank in RANKS}
    metrics |= {"protocol": str(ranking)} | subgroup_metrics(
        ranking.average_precision,
        ranking.first_match_rank,
        labels.person_ids[queries],
        labels.attribute_labels[queries],
        labels.schema,
    )
    if predicted.shape[1]:
        metrics |= attribute_accuracy(predicted, labels.attribute_labels, labels.schema, majority)
    return metrics | compute_registered_metrics(ranking, "reid")
