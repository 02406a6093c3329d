"""Train on labelled images: the batches, losses and validation metrics of multi-task networks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from reidray.config import TrainMultitaskConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.device_crops import place_crops
from reidray.data.images.crops import CropReader
from reidray.data.sampling.shuffled_batches import shuffled_batches
from reidray.losses import LossSizes, Targets, attach_losses, loss_modules
from reidray.metrics.attribute_metrics import majority_labels
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.augmented_batches import augmented_batches
from reidray.training.tasks.multitask.label_evaluation import evaluate_outputs, run_network

FILL = 127.5
"""Grey value of pixels that augmentation erases or moves in from outside an image."""


@dataclass(frozen=True)
class ImageBatch:
    """Hold one process's share of a batch.

    Attributes:
        images: (B, 3, H, W) float32 in 0..255, augmented.
        targets: (B, L) int64, -1 where unknown: the class, or else a value for each attribute.
        masks: (B, H, W) uint8, 1 in the foreground; None where the network predicts no masks.
    """

    images: Tensor
    targets: Tensor
    masks: Tensor | None


class MultitaskTask:
    """Predict an image's class and mask, or its attributes.

    Args:
        config: configuration of the training.
        labels: labels of the splits `train` and `val`.
        crops: decoded images, with masks where the network predicts masks.
        context: this training process.
    """

    def __init__(
        self,
        config: TrainMultitaskConfig,
        labels: Mapping[str, CropLabels],
        crops: CropReader,
        context: DistributedContext,
    ) -> None:
        self._config, self._context = config, context
        self._crops = place_crops(crops, context.device)
        self._train, self._validation = labels["train"], labels["val"]
        self.steps_per_epoch = -(-len(self._train) // config.batch_size)
        self.validation_images = len(self._validation)

    def batches(self, epoch: int) -> Iterator[ImageBatch]:
        """Yield this rank's images of each global batch of an epoch."""
        context, config, train = self._context, self._config, self._train
        plan = shuffled_batches(
            len(train),
            config.batch_size,
            seed=config.seed,
            epoch=epoch,
            rank=context.rank,
            world_size=context.world_size,
        )
        batches = augmented_batches(
            self._crops,
            train.indices,
            plan,
            np.arange(context.rank, config.batch_size, context.world_size),
            lambda positions: {"targets": train.targets[positions]},
            config,
            device=context.device,
            epoch=epoch,
            fill=FILL,
        )
        for batch in batches:
            yield ImageBatch(batch.images, batch.labels["targets"].long(), batch.masks)

    def batch_size(self, batch: ImageBatch) -> int:
        """Return the number of images in this process's share of a batch."""
        return len(batch.targets)

    def prepare(self, network: nn.Module) -> None:
        """Attach the losses to a network, so that their weights train with it."""
        attach_losses(network, self._config.loss.parts, LossSizes(num_people=0, embedding_size=0))

    def losses(self, network: nn.Module, batch: ImageBatch) -> dict[str, Tensor]:
        """Return the weighted losses of targets and masks, () float32 each."""
        outputs, parts = network(batch.images), self._config.loss.parts
        targets = Targets(batch.targets.new_empty(0), batch.targets, batch.masks)
        losses = {}
        for name, loss in loss_modules(network).items():
            value = loss(outputs, targets)
            if value is not None:
                losses[name] = parts[name].weight * value
        return losses

    def training_metrics(self) -> dict[str, float]:
        """Return no metrics of the batches."""
        return {}

    def validate(self, network: nn.Module) -> dict[str, Any]:
        """Return the metrics on the validation images; only rank 0 returns any."""
        context, validation = self._context, self._validation
        share = context.own_share(validation.indices)
        own = run_network(network, self._crops, share, context.device)
        outputs = own.gather(context, len(validation))
        if outputs is None:
            return {}
        majority = majority_labels(self._train.attribute_labels, self._train.schema)
        return evaluate_outputs(outputs.cpu(), validation, majority, self._config.loss).summary
