"""Recognising people as a task: batches of identities, their losses, and figures on others."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.config import TrainReidConfig
from reidray.data.images.crops import CropReader
from reidray.data.images.transforms import augment, image_tensor, plan_augmentation
from reidray.data.sampling import identity_batches
from reidray.errors import UserError
from reidray.losses import (
    attribute_loss,
    batch_hard_triplet_loss,
    label_loss,
    semi_hard_triplet_loss,
)
from reidray.metrics.attribute_metrics import majority_labels
from reidray.models.networks import IMAGENET_MEAN, Outputs
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.reid.validation import LabelledCrops, embed, evaluate_validation

FILL = 255 * sum(IMAGENET_MEAN) / 3
TRIPLET_LOSSES = {"hard": batch_hard_triplet_loss, "semihard": semi_hard_triplet_loss}


@dataclass(frozen=True)
class ReidBatch:
    """A process's share of a batch.

    Attributes:
        crops: (B, 3, H, W) float32 in 0..255, augmented.
        people: (B,) int64, indices of the training people.
        codes: (B, A) int64, -1 where unknown.
    """

    crops: Tensor
    people: Tensor
    codes: Tensor


class ReidTask:
    """Recognise people, and their attributes where the network predicts them."""

    def __init__(
        self,
        config: TrainReidConfig,
        source: CropReader,
        train: LabelledCrops,
        validation: LabelledCrops,
        context: DistributedContext,
    ) -> None:
        self._config, self._source, self._context = config, source, context
        self._train, self._validation = train, validation
        _, self._people = np.unique(train.people, return_inverse=True)
        self.steps_per_epoch = sum(1 for _ in self._plan(0))
        self.validation_images = len(validation.rows)

    def batches(self, epoch: int) -> Iterator[ReidBatch]:
        """This rank's people of each global batch of an epoch."""
        context, config = self._context, self._config
        shape = config.batch.people, config.batch.crops
        places = np.arange(math.prod(shape)).reshape(shape)
        share = places[context.rank :: context.world_size].reshape(-1)
        chosen = [positions.reshape(-1)[share] for positions in self._plan(epoch)]
        groups = self._source.read([self._train.rows[mine] for mine in chosen])
        for step, (mine, group) in enumerate(zip(chosen, groups, strict=True)):
            augmentation = plan_augmentation(
                config.augment, places.size, seed=config.seed, epoch=epoch, step=step
            )
            crops = image_tensor(group.crops, context.device)
            yield ReidBatch(
                augment(crops, augmentation.take(torch.from_numpy(share)), fill=FILL),
                torch.from_numpy(self._people[mine]).to(context.device),
                torch.from_numpy(self._train.codes[mine]).to(context.device, torch.int64),
            )

    def batch_size(self, batch: ReidBatch) -> int:
        """Images in this process's share of a batch."""
        return len(batch.people)

    def losses(self, network: nn.Module, batch: ReidBatch) -> dict[str, Tensor]:
        """Identity, triplet and attribute losses with their weights."""
        outputs: Outputs = network(batch.crops)
        weights = self._config.loss
        smoothing = weights.smoothing
        terms = {}
        if outputs.identity.shape[1]:
            terms["identity"] = weights.identity * label_loss(
                outputs.identity, batch.people, smoothing=smoothing
            )
        if weights.triplet:
            features, people = outputs.metric_feature, batch.people
            if self._config.gather_embeddings:
                features, people = map(self._context.gather_batch, (features, people))
            mined = TRIPLET_LOSSES[weights.mining]
            terms["triplet"] = weights.triplet * mined(features, people, margin=weights.margin)
        if outputs.attributes:
            terms["attributes"] = weights.attributes * attribute_loss(
                outputs.attributes, batch.codes, smoothing=smoothing
            )
        return terms

    def validate(self, network: nn.Module) -> dict[str, object]:
        """Figures on people that are not trained on; complete on rank 0 alone.

        Raises:
            UserError: the embeddings are not finite.
        """
        validation, context = self._validation, self._context
        mine = validation.rows[context.rank :: context.world_size]
        embeddings, attributes = embed(network, self._source, mine, context.device)
        embeddings = context.gather_for_metrics(embeddings, len(validation.rows)).cpu()
        attributes = context.gather_for_metrics(attributes, len(validation.rows)).cpu()
        if not torch.isfinite(embeddings).all():
            raise UserError(
                "the embeddings of the validation images are not finite: "
                "lower --optimizer.learning-rate or use --precision fp32"
            )
        if not context.is_main:
            return {}
        return evaluate_validation(
            embeddings,
            attributes.numpy(),
            validation,
            majority=majority_labels(self._train.codes, self._train.schema),
            metric=self._config.validation.metric,
        )

    def _plan(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        config = self._config
        return identity_batches(
            self._people,
            config.batch.people,
            config.batch.crops,
            seed=config.seed,
            epoch=epoch,
            cameras=self._train.cameras if config.batch.spread_cameras else None,
        )
