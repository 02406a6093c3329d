"""Compare the images of a batch with each other in triplets."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.config.options.built_in_losses import TripletLossOptions
from reidray.losses.loss import LossSizes, Targets, register_loss
from reidray.losses.pairs import mean_where
from reidray.models.networks.network import Outputs


def batch_hard_triplet_loss(features: Tensor, person_ids: Tensor, *, margin: float) -> Tensor:
    """Return the triplet loss of each anchor's hardest positive and negative (Hermans et al. 2017).

    Args:
        features: (B, D) float32.
        person_ids: (B,) int64.
        margin: distance by which the negative must be farther; 0 takes the soft margin
            `log(1 + exp(positive - negative))`.

    Returns:
        () float32, the mean over the anchors that have a positive and a negative; 0 without any.
    """
    distances = euclidean_distances(features.float())
    same = person_ids[:, None] == person_ids[None, :]
    different = ~same
    usable = (same.sum(dim=1) > 1) & different.any(dim=1)  # each image is the same as itself
    hardest_positive = distances.masked_fill(different, 0.0).amax(dim=1)
    hardest_negative = distances.masked_fill(same, torch.inf).amin(dim=1)
    return _mean_hinge(hardest_positive - hardest_negative, usable, margin)


def semi_hard_triplet_loss(features: Tensor, person_ids: Tensor, *, margin: float) -> Tensor:
    """Return the triplet loss of each anchor and positive with a semi-hard negative.

    The choice of negatives follows Schroff et al. 2015.

    The negative is the nearest one that is farther from the anchor than the positive; where no
    negative is farther, the farthest one.

    Args:
        features: (B, D) float32, usually of length 1.
        person_ids: (B,) int64.
        margin: distance by which the negative must be farther; 0 takes the soft margin.

    Returns:
        () float32, the mean over the pairs of an anchor and a positive; 0 without any.
    """
    distances = euclidean_distances(features.float())
    same = person_ids[:, None] == person_ids[None, :]
    values = distances.detach()
    negatives, columns = values.masked_fill(same, torch.inf).sort(dim=1, stable=True)
    count = (~same).sum(dim=1, keepdim=True)
    nearest_behind = torch.searchsorted(negatives, values, right=True)
    chosen = torch.minimum(nearest_behind, (count - 1).clamp(min=0))
    pushed = distances.gather(1, columns.gather(1, chosen))
    pairs = same.fill_diagonal_(False) & (count > 0)
    return _mean_hinge(distances - pushed, pairs, margin)


def euclidean_distances(features: Tensor) -> Tensor:
    """Return the distances of all pairs, (B, D) to (B, B) float32, with a finite gradient at 0."""
    squares = features.square().sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared.clamp(min=1e-12).sqrt()


def _mean_hinge(gaps: Tensor, counted: Tensor, margin: float) -> Tensor:
    """Return the mean hinge of the counted gaps; on a CPU the others take no part in the sum."""
    if gaps.device.type == "cpu" and counted.any():
        return _hinge(gaps[counted], margin).mean()
    return mean_hinge_where(gaps, counted, margin)


def mean_hinge_where(gaps: Tensor, counted: Tensor, margin: float) -> Tensor:
    """Return the mean of `max(0, gap + margin)`; at margin 0 of `log(1 + exp(gap))`.

    No shape depends on a value, so that the host does not wait for a GPU.

    Args:
        gaps: float32 differences of two distances.
        counted: bool of the same shape, the gaps to average.
        margin: margin of the triplet loss.

    Returns:
        () float32; 0 where no gap counts.
    """
    return mean_where(_hinge(gaps.masked_fill(~counted, 0.0), margin), counted)


def _hinge(gaps: Tensor, margin: float) -> Tensor:
    return functional.softplus(gaps) if margin == 0 else functional.relu(gaps + margin)


MINING = {"hard": batch_hard_triplet_loss, "semihard": semi_hard_triplet_loss}


@register_loss("triplet")
class TripletLoss(nn.Module):
    """Compute the triplet loss over the metric features of a batch.

    Hard negatives follow Hermans et al. 2017, and semi-hard ones Schroff et al. 2015.
    """

    def __init__(self, options: TripletLossOptions, _: LossSizes) -> None:
        super().__init__()
        self.mined_loss, self.margin = MINING[options.mining], options.margin

    def forward(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Return the loss, () float32."""
        features, person_ids = outputs.metric_feature, targets.person_indices
        return self.mined_loss(features, person_ids, margin=self.margin)
