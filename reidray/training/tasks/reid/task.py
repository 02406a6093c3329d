"""Train on batches of people: the batches, losses and validation metrics of re-ID."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.config import LossOptions, TrainReidConfig
from reidray.config.sections.network_options import NETWORK_OPTIONS
from reidray.data.attribute_schema import UNKNOWN
from reidray.data.crop_labels import CropLabels
from reidray.data.device_crops import place_crops
from reidray.data.images.crops import CropReader
from reidray.data.sampling.identity_batches import (
    balanced_batches,
    count_balanced_batches,
    count_identity_batches,
    identity_batches,
)
from reidray.errors import UserError
from reidray.inference.inference_settings import Precision
from reidray.losses import LossSizes, Targets, attach_losses, compute_loss, loss_modules
from reidray.metrics.attribute_metrics import majority_labels
from reidray.models.networks import IMAGENET_MEAN, Outputs
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.augmented_batches import augmented_batches
from reidray.training.tasks.reid.training_accuracy import TrainingAccuracy
from reidray.training.tasks.reid.validation import (
    embed_crops,
    evaluate_datasets,
    gather_outputs,
    predict_attributes,
)
from reidray.training.tasks.reid.validation_loss import validation_losses

FILL = 255 * sum(IMAGENET_MEAN) / 3
"""Value of pixels that augmentation erases or moves in from outside a crop."""


@dataclass(frozen=True)
class ReidBatch:
    """Hold one process's share of a batch.

    Attributes:
        crops: (B, 3, H, W) float32 in 0..255, augmented.
        person_indices: (B,) int64, outputs of the classifier for the people.
        attribute_labels: (B, A) int64, -1 where unknown.
        camera_indices: (B,) int64, -1 where unknown; None where the network reads no cameras.
    """

    crops: Tensor
    person_indices: Tensor
    attribute_labels: Tensor
    camera_indices: Tensor | None = None


class ReidTask:
    """Recognise people, and their attributes where the network predicts them.

    Args:
        config: configuration of the training.
        labels: labels of the splits `train` and `val`.
        crops: decoded images.
        context: this training process.
    """

    def __init__(
        self,
        config: TrainReidConfig,
        labels: Mapping[str, CropLabels],
        crops: CropReader,
        context: DistributedContext,
    ) -> None:
        self._config, self._context = config, context
        self._crops = place_crops(crops, context.device)
        self._train, self._validation = labels["train"], labels["val"]
        self._person_ids = self._train.unique_person_ids
        name = config.network.name or ""
        reads_cameras = name in NETWORK_OPTIONS and NETWORK_OPTIONS.get(name).reads_cameras
        self._cameras = self._train.cameras if reads_cameras else None
        self.steps_per_epoch = self._count_batches()
        self.validation_images = len(self._validation)
        self._accuracy = TrainingAccuracy(config.loss)

    def batches(self, epoch: int) -> Iterator[ReidBatch]:
        """Yield this rank's people of each global batch of an epoch."""
        context, config = self._context, self._config
        shape = config.batch.people, config.batch.crops
        share = np.arange(math.prod(shape)).reshape(shape)[context.rank :: context.world_size]
        share = share.reshape(-1)
        batches = augmented_batches(
            self._crops,
            self._train.indices,
            (batch.reshape(-1) for batch in self._plan_batches(epoch)),
            share,
            self._labels_of,
            config,
            device=context.device,
            epoch=epoch,
            fill=FILL,
        )
        for batch in batches:
            labels = batch.labels
            yield ReidBatch(
                batch.images, labels["person"], labels["attributes"].long(), labels.get("camera")
            )

    def batch_size(self, batch: ReidBatch) -> int:
        """Return the number of crops in this process's share of a batch."""
        return len(batch.person_indices)

    def prepare(self, network: nn.Module) -> None:
        """Attach the losses to a network, so that their weights train with it."""
        sizes = LossSizes(
            num_people=self._train.num_people,
            embedding_size=getattr(network, "embedding_size", 0),
            metric_size=getattr(network, "metric_size", 0),
        )
        attach_losses(network, self._config.loss.parts, sizes)

    def losses(self, network: nn.Module, batch: ReidBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name, () float32 each."""
        cameras = batch.camera_indices
        outputs: Outputs = network(batch.crops, *(() if cameras is None else (cameras,)))
        self._accuracy.add(outputs, batch.person_indices, batch.attribute_labels)
        targets = Targets(batch.person_indices, batch.attribute_labels)
        parts, modules = self._config.loss.parts, loss_modules(network)
        gathering = {name for name in modules if self._needs_whole_batch(parts[name])}
        whole = self._gather(outputs, targets) if gathering else (outputs, targets)
        losses = {}
        for name, loss in modules.items():
            value = compute_loss(loss, *(whole if name in gathering else (outputs, targets)))
            if value is not None:
                losses[name] = parts[name].weight * value
        return losses

    def training_metrics(self) -> dict[str, float]:
        """Return the accuracy on the batches since the last call, where it is defined."""
        accuracy = self._accuracy.compute(self._context)
        return {} if accuracy is None else {"training_accuracy": accuracy}

    def _needs_whole_batch(self, options: LossOptions) -> bool:
        """Return whether a loss gets the features of all workers."""
        compares_all = options.compares_images and self._config.gather_embeddings
        return options.needs_whole_batch or compares_all

    def _gather(self, outputs: Outputs, targets: Targets) -> tuple[Outputs, Targets]:
        """Return outputs and targets with the metric features and the people of all workers."""
        features, person_indices, *parts = self._context.gather_batch(
            outputs.metric_feature,
            targets.person_indices,
            *(part.metric_feature for part in outputs.parts),
        )
        gathered = tuple(
            replace(part, metric_feature=each)
            for part, each in zip(outputs.parts, parts, strict=True)
        )
        return (
            replace(outputs, metric_feature=features, parts=gathered),
            replace(targets, person_indices=person_indices),
        )

    def validate(self, network: nn.Module) -> dict[str, object]:
        """Return the metrics on the validation people; only rank 0 returns any.

        Raises:
            UserError: the embeddings are not finite.
        """
        validation, context = self._validation, self._context
        share = context.own_share(validation.indices)
        precision: Precision = "fp32" if self._config.precision == "fp32" else "bf16"
        compares_images = any(each.compares_images for each in self._config.loss.used.values())
        own = embed_crops(network, self._crops, share, precision, with_features=compares_images)
        outputs = gather_outputs(own, context, len(validation))
        if outputs is None:
            return {}
        embeddings = outputs.embedding.cpu()
        if not torch.isfinite(embeddings).all():
            raise UserError(
                "the embeddings of the validation images are not finite: "
                "lower `optimizer.learning_rate` or use `precision=fp32`"
            )
        with torch.inference_mode():
            losses = validation_losses(loss_modules(network), self._config, outputs, validation)
        return losses | evaluate_datasets(
            embeddings,
            predict_attributes(outputs),
            validation,
            majority=majority_labels(self._train.attribute_labels, self._train.schema),
            metric=self._config.validation.metric,
            protocol=self._config.validation.protocol,
            num_queries=self._config.validation.num_queries,
            top_k=self._config.validation.top_k,
        )

    def _labels_of(self, positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the labels of the training crops at some positions, (N,) and (N, A)."""
        train = self._train
        labels: dict[str, NDArray[Any]] = {
            "person": np.searchsorted(self._person_ids, train.person_ids[positions]),
            "attributes": train.attribute_labels[positions],
        }
        if self._cameras is not None:
            ids = train.camera_ids[positions]
            labels["camera"] = np.where(ids >= 0, np.searchsorted(self._cameras, ids), UNKNOWN)
        return labels

    def _count_batches(self) -> int:
        """Return the number of batches of an epoch."""
        batch, train = self._config.batch, self._train
        if train.dataset_indices is not None and batch.dataset_shares == "equal":
            return count_balanced_batches(
                train.people, train.dataset_indices, batch.people, batch.crops
            )
        return count_identity_batches(train.people, batch.people, batch.crops)

    def _plan_batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the positions of this rank's people of each batch in the training labels.

        Yields:
            (P / W, K) int64, of W processes.
        """
        config, train = self._config, self._train
        batch, context = config.batch, self._context
        draw = identity_batches
        if train.dataset_indices is not None and batch.dataset_shares == "equal":
            draw = partial(balanced_batches, dataset_indices=train.dataset_indices)
        return draw(
            train.people,
            batch_people=batch.people,
            batch_crops=batch.crops,
            seed=config.seed,
            epoch=epoch,
            camera_ids=train.camera_ids if batch.spread_cameras else None,
            rank=context.rank,
            world_size=context.world_size,
        )
