"""Classify people by the angle to a direction of each person, with a margin: ArcFace, CosFace.

The directions are weights of the loss. They train and are saved in checkpoints with the network,
and the model directory leaves them out. The losses take `Outputs.classified_feature` at length 1.
Where a network has batch-normalisation necks, it follows them, as a classifier needs (Luo et al.
2019, fast-reid, TransReID).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.config.options.built_in_losses import MarginSoftmaxLossOptions
from reidray.losses.circle_loss import circle_logits
from reidray.losses.cross_entropy import label_loss
from reidray.losses.loss import LossSizes, Targets, register_loss
from reidray.models.networks.network import Outputs

INITIAL_DEVIATION = 0.01
"""Standard deviation of the directions before training; only their angles matter to the loss."""

MIN_SQUARED_SINE = 1e-6
"""Least squared sine of an angle: the gradient of the sine is infinite at 0."""


def arcface_logits(cosines: Tensor, labels: Tensor, *, margin: float, scale: float) -> Tensor:
    """Return logits that add a margin to the angle of the right person (Deng et al. 2019).

    The logit of the right person is `scale * cos(angle + margin)`, those of the others are
    `scale * cos(angle)`. Where the angle plus the margin exceeds 180 degrees, the right person's
    cosine is lowered by `margin * sin(margin)` instead, so that a smaller angle stays better.

    Args:
        cosines: (B, people) float32, of the embedding and the direction of each person.
        labels: (B,) int64.
        margin: angle in radians.
        scale: factor of the cosines.

    Returns:
        (B, people) float32.
    """
    cosine = cosines.gather(1, labels[:, None])
    sine = (1 - cosine.square()).clamp(min=MIN_SQUARED_SINE).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    lowered = cosine - margin * math.sin(margin)
    right = torch.where(cosine > -math.cos(margin), turned, lowered)
    return scale * cosines.scatter(1, labels[:, None], right)


def cosface_logits(cosines: Tensor, labels: Tensor, *, margin: float, scale: float) -> Tensor:
    """Return logits that lower the cosine of the right person by a margin (Wang et al. 2018).

    The logit of the right person is `scale * (cosine - margin)`, those of the others are
    `scale * cosine`. Arguments and result are those of `arcface_logits`.
    """
    right = cosines.gather(1, labels[:, None]) - margin
    return scale * cosines.scatter(1, labels[:, None], right)


def circle_softmax_logits(
    cosines: Tensor, labels: Tensor, *, margin: float, scale: float
) -> Tensor:
    """Return the logits of the circle loss over the classifier of people (Sun et al. 2020).

    The cosine of the right person is the one positive pair of an image, and those of the others
    are its negative pairs. Arguments and result are those of `arcface_logits`.
    """
    people = torch.arange(cosines.shape[1], device=cosines.device)
    return circle_logits(cosines, people == labels[:, None], margin=margin, scale=scale)


class MarginSoftmaxLoss(nn.Module):
    """Compute a cross-entropy over the cosines of the embedding and a direction of each person.

    A subclass has the function that turns cosines into logits.
    """

    logits: Callable[..., Tensor]

    def __init__(self, options: MarginSoftmaxLossOptions, sizes: LossSizes) -> None:
        super().__init__()
        self.margin, self.scale = options.margin, options.scale
        self.smoothing = options.smoothing
        self.weight = nn.Parameter(torch.empty(sizes.num_people, sizes.known_embedding_size))
        nn.init.normal_(self.weight, std=INITIAL_DEVIATION)

    def forward(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Return the loss, () float32."""
        labels, directions = targets.person_indices, functional.normalize(self.weight)
        cosines = functional.normalize(outputs.classified_feature.float()) @ directions.T
        logits = self.logits(cosines, labels, margin=self.margin, scale=self.scale)
        return label_loss(logits, labels, smoothing=self.smoothing)


@register_loss("arcface")
class ArcFaceLoss(MarginSoftmaxLoss):
    """Compute ArcFace, a cross-entropy with a margin of the angle (Deng et al. 2019)."""

    logits = staticmethod(arcface_logits)


@register_loss("cosface")
class CosFaceLoss(MarginSoftmaxLoss):
    """Compute CosFace, a cross-entropy with a margin of the cosine (Wang et al. 2018)."""

    logits = staticmethod(cosface_logits)


@register_loss("circle_softmax")
class CircleSoftmaxLoss(MarginSoftmaxLoss):
    """Compute a cross-entropy with the weights of the circle loss (Sun et al. 2020)."""

    logits = staticmethod(circle_softmax_logits)
