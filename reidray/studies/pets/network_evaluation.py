"""Evaluate networks on the test images, each in a Ray task."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from reidray.cluster_resources import wait_for_resources
from reidray.config import MultitaskLossConfig
from reidray.config.comparison import CompareConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.device_crops import CopiedCrops
from reidray.data.images.crops import Indices
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.mode import choose_ingest_mode, ingest
from reidray.data.manifest import Manifest
from reidray.metrics.classification import ClassificationMetrics
from reidray.models import LoadedModel
from reidray.reporting.charts.embedding_maps import LabelledMap
from reidray.studies.pets.pet_features import (
    NEIGHBOURS,
    evaluate_neighbours,
    map_features,
    run_with_features,
)
from reidray.studies.pets.pet_samples import (
    MaskSamples,
    choose_masks,
    describe_samples,
    most_confident_mistakes,
)
from reidray.training.execution.resources import Resources
from reidray.training.execution.worker_planning import plan_workers
from reidray.training.experiment import image_files
from reidray.training.orchestration import report_bad_images
from reidray.training.tasks.multitask.definition import group_by_row
from reidray.training.tasks.multitask.label_evaluation import (
    LabelEvaluation,
    Mistake,
    evaluate_outputs,
)


@dataclass(frozen=True)
class NetworkResult:
    """Hold the results of a network on the test images.

    Attributes:
        evaluation: the metrics.
        neighbours: the metrics of the classes that the nearest training images vote for; None
            without training images.
        feature_map: the t-SNE map of some images; None for very few images.
        masks: the images with the best and the worst masks; None where the network predicts none.
        mistakes: the most confident wrong predictions.
        decoded: (N,) int64, the rows of the training and test images that decode.
    """

    evaluation: LabelEvaluation
    neighbours: ClassificationMetrics | None
    feature_map: LabelledMap | None
    masks: MaskSamples | None
    mistakes: tuple[Mistake, ...]
    decoded: Indices

    @property
    def classes(self) -> ClassificationMetrics:
        """Return the metrics of the classes that the network predicts."""
        return self.evaluation.labels["class"]

    def to_json(self, paths: pa.ChunkedArray) -> dict[str, Any]:
        """Return all metrics, and the chosen images, as plain values.

        Args:
            paths: the paths of the images, as strings.
        """
        metrics = self.evaluation.to_json()
        if self.neighbours is not None:
            metrics[f"nearest{NEIGHBOURS}"] = {
                key: value.tolist() if isinstance(value, np.ndarray) else value
                for key, value in asdict(self.neighbours).items()
            }
        chosen = describe_samples(self.masks, self.mistakes, paths)
        return metrics | chosen


def evaluate_networks(
    models: Mapping[str, LoadedModel], images: Manifest, config: CompareConfig
) -> dict[str, NetworkResult]:
    """Evaluate networks on the test images, which are decoded once for each input of a network.

    Args:
        models: the networks by name.
        images: training and test images of known classes.
        config: the configuration of the comparison.
    """
    decoded: dict[tuple[tuple[int, int], bool], tuple[CropDataset, Resources]] = {}
    results = {}
    for name, model in models.items():
        files = image_files(images, model.architecture, group_by_row(images))
        kind = files.size, files.masks is not None
        if kind not in decoded:
            decoded[kind] = _decode(files, config)
        crops, resources = decoded[kind]
        train, test = (
            CropLabels.from_manifest(images, split).take_decoded(crops.decoded)
            for split in ("train", "gallery")
        )
        results[name] = resources.run(_evaluate, model, crops, train, test, config.seed, resources)
    return results


def _decode(files: ImageFiles, config: CompareConfig) -> tuple[CropDataset, Resources]:
    """Decode images across the cluster, and plan the task that a network runs in.

    Raises:
        UserError: too many images do not decode, or the cluster had no room for the task in time.
    """
    mode = choose_ingest_mode(files, "auto")
    resources = plan_workers(1, config.use_gpu, streams=mode == "stream")
    wait_for_resources([resources.reserved])
    crops = ingest(files, mode)
    report_bad_images(crops, len(files.paths), config.max_bad)
    return crops, resources


def _evaluate(
    model: LoadedModel,
    crops: CropDataset,
    train: CropLabels,
    test: CropLabels,
    seed: int,
    resources: Resources,
) -> NetworkResult:
    """Evaluate a network on the test images in this process."""
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, reader = model.network.to(device), crops.open()
    device_crops = CopiedCrops(reader, device)
    outputs, features = run_with_features(network, device_crops, test, device)
    no_attributes = np.zeros(0, dtype=np.int64)
    neighbours = None
    if len(train):
        _, gallery = run_with_features(network, device_crops, train, device)
        neighbours = evaluate_neighbours(features, gallery, test, train)
    return NetworkResult(
        evaluation=evaluate_outputs(outputs, test, no_attributes, MultitaskLossConfig()),
        neighbours=neighbours,
        feature_map=map_features(features, test, seed),
        masks=choose_masks(network, reader, outputs, test, device),
        mistakes=most_confident_mistakes(outputs, test),
        decoded=np.concatenate([train.indices, test.indices]),
    )
