"""Evaluate a network on the test images, in a Ray task."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.config import MultitaskLossConfig
from reidray.config.comparison import CompareConfig
from reidray.data.augmentations import image_tensor
from reidray.data.crop_labels import CropLabels
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.mode import choose_ingest_mode, ingest
from reidray.data.manifest import Manifest
from reidray.models import LoadedModel
from reidray.training.execution.ray_trainer import plan_workers
from reidray.training.execution.resources import Resources
from reidray.training.experiment import image_files
from reidray.training.orchestration import report_bad_images
from reidray.training.tasks.multitask.definition import group_by_row
from reidray.training.tasks.multitask.label_evaluation import LabelEvaluation, evaluate_network

NUM_SHOWN = 6
"""Number of test images whose masks the report shows."""


@dataclass(frozen=True)
class NetworkResult:
    """Hold the results of a network on the test images.

    Attributes:
        evaluation: the metrics.
        crops: (S, H, W, 3) uint8, the images whose masks the report shows.
        masks: (S, H, W) bool, the predicted masks; None where the network predicts none.
    """

    evaluation: LabelEvaluation
    crops: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None


def evaluate_on_cluster(model: LoadedModel, test: Manifest, config: CompareConfig) -> NetworkResult:
    """Evaluate a network on the test images in a Ray task."""
    files = image_files(test, model.architecture, group_by_row(test))
    mode = choose_ingest_mode(files, "auto")
    resources = plan_workers(1, config.use_gpu, streams=mode == "stream")
    crops = ingest(files, mode)
    report_bad_images(crops, len(files.paths), config.max_bad)
    labels = CropLabels.from_manifest(test, "gallery").take_decoded(crops.indices)
    return resources.run(_evaluate, model, crops, labels, resources)


def _evaluate(
    model: LoadedModel,
    crops: CropDataset,
    labels: CropLabels,
    resources: Resources,
) -> NetworkResult:
    """Evaluate a network on the test images in this process."""
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, source = model.network.to(device), crops.open()
    no_attributes = np.zeros(0, dtype=np.int64)
    evaluation = evaluate_network(
        network, source, labels, no_attributes, MultitaskLossConfig(), device
    )
    shown = labels.indices[:: max(1, len(labels) // NUM_SHOWN)][:NUM_SHOWN]
    (group,) = source.read([shown])
    if group.masks is None:
        return NetworkResult(evaluation, group.crops, None)
    with torch.inference_mode():
        logits = network(image_tensor(group.crops, device)).masks
    return NetworkResult(evaluation, group.crops, (logits[:, 0] > 0).cpu().numpy())
