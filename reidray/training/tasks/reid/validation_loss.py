"""Compute the losses of a re-ID training on the validation images."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from reidray.config import TrainReidConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.sampling.identity_batches import identity_batches
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
    people = labels.people
    targets = Targets(
        torch.from_numpy(people.person_numbers()).to(device).long(),
        torch.from_numpy(labels.attribute_labels).to(device).long(),
    )
    used = config.loss.used
    values: dict[str, list[Tensor]] = {name: [] for name in used}

    def add(name: str, value: Tensor | None) -> None:
        if value is not None:
            values[name].append(value)

    if "attributes" in used:
        add("attributes", losses["attributes"](outputs, targets))
    comparing = [name for name, options in used.items() if options.compares_images]
    if comparing and people.num_people > 1:
        size = min(config.batch.people, people.num_people), config.batch.crops
        for batch in identity_batches(people, *size, seed=BATCH_SEED, epoch=0):
            chosen = _take(outputs, targets, torch.from_numpy(batch.reshape(-1)).to(device))
            for name in comparing:
                add(name, losses[name](*chosen))
    found = {
        f"validation_loss_{name}": float(used[name].weight * torch.stack(each).mean())
        for name, each in values.items()
        if each
    }
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
