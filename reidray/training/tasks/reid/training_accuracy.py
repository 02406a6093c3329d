"""Measure the accuracy of the answers of a re-ID network while it trains."""

import torch
from torch import Tensor

from reidray.config import LossConfig
from reidray.models.networks import Outputs
from reidray.training.distributed_context import DistributedContext


class TrainingAccuracy:
    """Accumulate the mean share of right answers on the device, without waiting for it.

    The answers are those of the heads that learn: where no head learns people by a cross-entropy,
    as with triplets or ArcFace alone, nothing is measured.

    Args:
        loss: weights of the losses.
    """

    def __init__(self, loss: LossConfig) -> None:
        self._learns_people = loss.parts["identity"].weight > 0
        self._learns_attributes = loss.parts["attributes"].weight > 0
        self._total: Tensor | None = None
        self._images = 0

    def add(self, outputs: Outputs, person_indices: Tensor, attribute_labels: Tensor) -> None:
        """Add a batch of B images.

        Args:
            outputs: outputs of the network.
            person_indices: (B,) int64, outputs of the classifier for the people.
            attribute_labels: (B, A) int64, -1 where unknown.
        """
        if not self._learns_people or not outputs.identity.shape[1]:
            return
        logits = outputs.attributes if self._learns_attributes else ()
        shares = right_answers(outputs.identity, logits, person_indices, attribute_labels)
        total = shares.sum(dtype=torch.float64)
        self._total = total if self._total is None else self._total + total
        self._images += len(shares)

    def compute(self, context: DistributedContext) -> float | None:
        """Return the mean over the images of all ranks since the last call; None without any.

        Every rank calls it, and gets the same value.
        """
        if self._total is None:
            return None
        images = torch.full_like(self._total, self._images)
        right, count = context.sum_values(torch.stack([self._total, images])).tolist()
        self._total, self._images = None, 0
        return float(right / count)


@torch.no_grad()
def right_answers(
    identity: Tensor,
    attributes: tuple[Tensor, ...],
    person_indices: Tensor,
    attribute_labels: Tensor,
) -> Tensor:
    """Return the share of right answers for each of B images, (B,) float32.

    For an image with A known attributes:

        (right attributes + right identity) / (A + 1)

    >>> people, hat = torch.tensor([[0.2, 0.8], [0.9, 0.1]]), torch.tensor([[1.0, 0], [1, 0]])
    >>> right_answers(people, (hat,), torch.tensor([1, 1]), torch.tensor([[1], [-1]])).tolist()
    [0.5, 0.0]

    Args:
        identity: (B, people) logits.
        attributes: (B, values) logits of each attribute; empty where only people count.
        person_indices: (B,) int64.
        attribute_labels: (B, A) int64, -1 where unknown.
    """
    right = (identity.argmax(dim=1) == person_indices).float()
    if not attributes:
        return right
    predicted = torch.stack([logits.argmax(dim=1) for logits in attributes], dim=1)
    known = (attribute_labels >= 0).sum(dim=1)
    return (right + (predicted == attribute_labels).sum(dim=1)) / (known + 1)
