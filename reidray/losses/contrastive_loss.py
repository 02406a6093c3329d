"""Classify images among those of a batch by a softmax: the supervised contrastive loss."""

from torch import Tensor, nn

from reidray.config.options.built_in_losses import SupervisedContrastiveLossOptions
from reidray.losses.loss import LossSizes, Targets, register_loss
from reidray.losses.pairs import cosine_similarities, find_pairs, log_sum_exp_where, mean_where
from reidray.models.networks.network import Outputs


def supervised_contrastive_loss(
    features: Tensor, person_ids: Tensor, *, temperature: float
) -> Tensor:
    """Return the supervised contrastive loss, with the mean outside the logarithm.

    For each anchor, every positive is classified among all other images of the batch by the
    softmax of `cosine / temperature`; the cross-entropy is averaged over the positives (the loss
    `L_out` of Khosla et al. 2020).

    Args:
        features: (B, D) float32; their lengths do not matter.
        person_ids: (B,) int64.
        temperature: divisor of the cosines.

    Returns:
        () float32, the mean over the anchors that have a positive; 0 without any.
    """
    pairs = find_pairs(person_ids)
    logits = cosine_similarities(features) / temperature
    others = pairs.positive | pairs.negative
    surprise = log_sum_exp_where(logits, others)[:, None] - logits
    positives = pairs.positive.sum(dim=1)
    terms = surprise.masked_fill(~pairs.positive, 0.0).sum(dim=1) / positives.clamp(min=1)
    return mean_where(terms, positives > 0)


@register_loss("supervised_contrastive")
class SupervisedContrastiveLoss(nn.Module):
    """Compute the supervised contrastive loss over metric features (Khosla et al. 2020)."""

    def __init__(self, options: SupervisedContrastiveLossOptions, _: LossSizes) -> None:
        super().__init__()
        self.temperature = options.temperature

    def forward(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Return the loss, () float32."""
        return supervised_contrastive_loss(
            outputs.metric_feature, targets.person_indices, temperature=self.temperature
        )
