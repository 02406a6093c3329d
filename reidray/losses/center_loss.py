"""Pull the features of a person to their moving mean: the centre loss."""

import torch
from torch import Tensor, nn

from reidray.config.options.built_in_losses import CenterLossOptions
from reidray.losses.loss import LossSizes, Targets, register_loss
from reidray.models.networks.network import Outputs


def center_loss(features: Tensor, centers: Tensor) -> Tensor:
    """Return half the squared distance of the features to their centres (Wen et al. 2016).

    Args:
        features: (B, D) float32.
        centers: (B, D) float32, the centre of the person of each image.

    Returns:
        () float32, the mean over the batch.
    """
    return (features - centers).square().sum(dim=1).mean() / 2


def move_centers(centers: Tensor, features: Tensor, person_ids: Tensor, *, rate: float) -> Tensor:
    """Return the centres after the update of Wen et al. 2016.

    The centre `c` of a person with `n` images `x` in the batch moves by
    `rate * sum(x - c) / (1 + n)`. All rows of a person are equal, so that a GPU may write them in
    any order.

    Args:
        centers: (B, D) float32, the centre of the person of each image.
        features: (B, D) float32.
        person_ids: (B,) int64.
        rate: learning rate of the centres, in 0..1.

    Returns:
        (B, D) float32.
    """
    same = (person_ids[:, None] == person_ids[None, :]).to(features.dtype)
    images = same.sum(dim=1, keepdim=True)
    return centers + rate * (same @ features - images * centers) / (1 + images)


@register_loss("center")
class CenterLoss(nn.Module):
    """Compute the centre loss over the metric features of a batch (Wen et al. 2016).

    The centres move by a rule of their own and have no gradient: the optimiser, its weight decay
    and schedule, and the weight of the loss do not change them. Luo et al. 2019 reach the
    same with a second optimiser whose gradients are divided by the weight.
    """

    centers: Tensor

    def __init__(self, options: CenterLossOptions, sizes: LossSizes) -> None:
        super().__init__()
        self.rate = options.rate
        length = sizes.metric_size or sizes.known_embedding_size
        centers = torch.zeros(sizes.num_people, length)
        self.register_buffer("centers", centers)

    def forward(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Return the loss to the centres before this batch, () float32, and move the centres."""
        features, person_ids = outputs.metric_feature.float(), targets.person_indices
        centers = self.centers[person_ids]
        if self.training:
            moved = move_centers(centers, features.detach(), person_ids, rate=self.rate)
            self.centers.index_copy_(0, person_ids, moved)
        return center_loss(features, centers)
