"""Naming and drawing as a task: batches of images, their losses, and figures on others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reidray.config import TrainMultitaskConfig
from reidray.data.images.crops import CropReader
from reidray.data.images.transforms import augment, augment_masks, image_tensor, plan_augmentation
from reidray.data.sampling import shuffled_batches
from reidray.losses import attribute_loss, mask_loss
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.multitask.label_evaluation import (
    Figures,
    LabelledImages,
    Labelling,
    evaluate_outputs,
    label_logits,
    run_network,
)

FILL = 127.5
"""Grey, for what comes in from outside an image or is erased of it."""


@dataclass(frozen=True)
class ImageBatch:
    """A process's share of a batch.

    Attributes:
        images: (B, 3, H, W) float32 in 0..255, augmented.
        labels: (B, L) int64, -1 where unknown: the class, or a code for each attribute.
        masks: (B, H, W) uint8, 1 where the animal is; None where nothing is drawn.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None


class MultitaskTask:
    """Say an image's class and draw its mask, or say its attributes."""

    def __init__(
        self,
        config: TrainMultitaskConfig,
        labelling: Labelling,
        source: CropReader,
        train: LabelledImages,
        validation: LabelledImages,
        context: DistributedContext,
    ) -> None:
        self._config, self._labelling, self._source = config, labelling, source
        self._train, self._validation, self._context = train, validation, context
        self.steps_per_epoch = -(-len(train.rows) // config.batch_size)
        self.validation_images = len(validation.rows)

    def batches(self, epoch: int) -> Iterator[ImageBatch]:
        """This rank's images of each global batch of an epoch."""
        context, config, train = self._context, self._config, self._train
        plan = list(
            shuffled_batches(len(train.rows), config.batch_size, seed=config.seed, epoch=epoch)
        )
        share = np.arange(context.rank, config.batch_size, context.world_size)
        groups = self._source.read([train.rows[positions[share]] for positions in plan])
        for step, (positions, group) in enumerate(zip(plan, groups, strict=True)):
            changes = plan_augmentation(
                config.augment, len(positions), seed=config.seed, epoch=epoch, step=step
            ).take(torch.from_numpy(share))
            images = image_tensor(group.crops, context.device)
            masks = None
            if group.masks is not None:
                masks = augment_masks(torch.from_numpy(group.masks).to(context.device), changes)
            labels = torch.from_numpy(train.labels[positions[share]]).to(context.device)
            yield ImageBatch(augment(images, changes, fill=FILL), labels, masks)

    def batch_size(self, batch: ImageBatch) -> int:
        """Images in this process's share of a batch."""
        return len(batch.labels)

    def losses(self, network: nn.Module, batch: ImageBatch) -> dict[str, Tensor]:
        """Losses over labels and masks with their weights."""
        weights, outputs = self._config.loss, network(batch.images)
        labels = attribute_loss(label_logits(outputs), batch.labels, smoothing=weights.smoothing)
        terms = {"labels": weights.labels * labels}
        if batch.masks is not None:
            terms["masks"] = weights.masks * mask_loss(outputs.masks, batch.masks)
        return terms

    def validate(self, network: nn.Module) -> Figures:
        """Figures on images that are not trained on; complete on rank 0 alone."""
        context, validation = self._context, self._validation
        mine = validation.rows[context.rank :: context.world_size]
        outputs = run_network(network, self._source, mine, context.device)
        gathered = outputs.gathered(context, len(validation.rows))
        if not context.is_main:
            return {}
        return evaluate_outputs(gathered, validation, self._labelling, self._config.loss).summary
