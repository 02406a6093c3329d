"""Compute the losses of a re-ID training on the validation images."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from reidray.config import TrainReidConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.sampling import identity_batches
from reidray.losses import Targets
from reidray.models.networks import Outputs

BATCH_SEED = 0
"""Seed of the batches, so that the losses of two epochs, and of two trainings, are of the same."""


def validation_losses(
    losses: Mapping[str, nn.Module], config: TrainReidConfig, outputs: Outputs, labels: CropLabels
) -> dict[str, float]:
    """Compute the weighted losses that need no classifier of the training people.

    A loss that compares images is the mean over batches of P people with K crops each, as in the
    training, which use every image. The loss of the attributes is that of all images together.

    Args:
        losses: losses of the training by name.
        config: weights of the losses, and size of a batch.
        outputs: outputs for N validation images, on the device of the losses.
        labels: labels of these images.

    Returns:
        `validation_loss_NAME` for each such loss, and `validation_loss`, their sum; nothing where
        the training has no such loss.
    """
    device = outputs.embedding.device
    people, person_indices = np.unique(labels.person_ids, return_inverse=True)
    targets = Targets(
        torch.from_numpy(person_indices).to(device),
        torch.from_numpy(labels.attribute_labels.astype(np.int64)).to(device),
    )
    size = min(config.batch.people, len(people)), config.batch.crops
    batches = [
        torch.from_numpy(batch.reshape(-1)).to(device)
        for batch in identity_batches(person_indices, *size, seed=BATCH_SEED, epoch=0)
    ]
    found = {}
    for name, options in config.loss.used.items():
        values: list[Tensor | None] = []
        if options.compares_images and len(people) > 1:
            values = [losses[name](*_take(outputs, targets, batch)) for batch in batches]
        elif name == "attributes":
            values = [losses[name](outputs, targets)]
        known = [value for value in values if value is not None]
        if known:
            loss = options.weight * torch.stack(known).mean()
            found[f"validation_loss_{name}"] = float(loss)
    return {"validation_loss": sum(found.values()), **found} if found else {}


def _take(outputs: Outputs, targets: Targets, images: Tensor) -> tuple[Outputs, Targets]:
    """Return the outputs and the targets of some images."""
    return (
        replace(
            outputs,
            embedding=outputs.embedding[images],
            metric_feature=outputs.metric_feature[images],
            identity=outputs.identity[images],
            attributes=tuple(logits[images] for logits in outputs.attributes),
        ),
        replace(
            targets,
            person_indices=targets.person_indices[images],
            labels=targets.labels[images],
        ),
    )
