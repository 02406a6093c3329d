"""Weight each pair of images by its distance from the optimum: the circle loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.config.options.built_in_losses import CircleLossOptions
from reidray.losses.loss import LossSizes, Targets, register_loss
from reidray.losses.pairs import cosine_similarities, find_pairs, log_sum_exp_where, mean_where
from reidray.models.networks.network import Outputs


def circle_logits(cosines: Tensor, positive: Tensor, *, margin: float, scale: float) -> Tensor:
    """Return the weighted similarities of the circle loss (Sun et al. 2020).

    For a margin `m`, a positive pair of cosine `s` gets `scale * [1 + m - s]+ * (s - (1 - m))` and
    a negative one `scale * [s + m]+ * (s - m)`. The weights in brackets have no gradient.

    Args:
        cosines: (B, N) float32.
        positive: (B, N) bool, pairs of one person; the others are of two people.
        margin: margin `m`, in 0..1.
        scale: factor of the similarities.

    Returns:
        (B, N) float32.
    """
    fixed = cosines.detach()
    weights = torch.where(positive, 1 + margin - fixed, fixed + margin).clamp(min=0)
    optimum = torch.where(positive, 1 - margin, margin)
    return scale * weights * (cosines - optimum)


def circle_loss(features: Tensor, person_ids: Tensor, *, margin: float, scale: float) -> Tensor:
    """Return the circle loss of the pairs of a batch (Sun et al. 2020).

    Each image is the anchor of `log(1 + sum(exp(negatives)) * sum(exp(-positives)))` over the
    `circle_logits` of its pairs.

    Args:
        features: (B, D) float32; their lengths do not matter.
        person_ids: (B,) int64.
        margin: margin of the cosines, in 0..1.
        scale: factor of the similarities.

    Returns:
        () float32, the mean over the anchors that have a positive and a negative; 0 without any.
    """
    pairs = find_pairs(person_ids)
    cosines = cosine_similarities(features)
    logits = circle_logits(cosines, pairs.positive, margin=margin, scale=scale)
    terms = functional.softplus(
        log_sum_exp_where(-logits, pairs.positive) + log_sum_exp_where(logits, pairs.negative)
    )
    return mean_where(terms, pairs.positive.any(dim=1) & pairs.negative.any(dim=1))


@register_loss("circle")
class CircleLoss(nn.Module):
    """Compute the circle loss over the cosines of metric features (Sun et al. 2020)."""

    def __init__(self, options: CircleLossOptions, _: LossSizes) -> None:
        super().__init__()
        self.margin, self.scale = options.margin, options.scale

    def forward(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Return the loss, () float32."""
        features, person_ids = outputs.metric_feature, targets.person_indices
        return circle_loss(features, person_ids, margin=self.margin, scale=self.scale)
