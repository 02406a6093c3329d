"""Losses of re-identification and attributes, on plain tensors."""

import torch
from torch import Tensor
from torch.nn import functional


def identity_loss(logits: Tensor, people: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016).

    Args:
        logits: (B, people) float32.
        people: (B,) int64, indices of the training people.
        smoothing: share of the target spread over all people, in 0..1.

    Returns:
        () float32, the mean over the batch.
    """
    return functional.cross_entropy(logits.float(), people, label_smoothing=smoothing)


def attribute_loss(logits: tuple[Tensor, ...], codes: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy of each attribute, averaged over the attributes.

    Args:
        logits: for each of A attributes (B, values) float32.
        codes: (B, A) int64; -1 is unknown and counts nothing.
        smoothing: share of the target spread over all values, in 0..1.

    Returns:
        () float32; 0 where nothing is known.
    """
    terms = []
    for values, column in zip(logits, codes.unbind(dim=1), strict=True):
        total = functional.cross_entropy(
            values.float(), column, ignore_index=-1, label_smoothing=smoothing, reduction="sum"
        )
        terms.append(total / (column >= 0).sum().clamp(min=1))
    return torch.stack(terms).mean()


def batch_hard_triplet_loss(features: Tensor, people: Tensor, *, margin: float) -> Tensor:
    """Triplet loss over the hardest positive and negative of each anchor (Hermans et al. 2017).

    Args:
        features: (B, D) float32.
        people: (B,) int64.
        margin: by how much the negative must be farther; 0 takes the soft margin
            `log(1 + exp(positive - negative))`.

    Returns:
        () float32, the mean over the anchors that have a positive and a negative; 0 without any.
    """
    features = features.float()
    distances = euclidean_distances(features)
    same = people[:, None] == people[None, :]
    other_image = ~torch.eye(len(people), dtype=torch.bool, device=people.device)
    usable = (same & other_image).any(dim=1) & (~same).any(dim=1)
    hardest_positive = distances.masked_fill(~same, 0.0).amax(dim=1)
    hardest_negative = distances.masked_fill(same, torch.inf).amin(dim=1)
    gap = (hardest_positive - hardest_negative)[usable]
    if gap.numel() == 0:
        return features.sum() * 0.0
    return functional.softplus(gap).mean() if margin == 0 else functional.relu(gap + margin).mean()


def euclidean_distances(features: Tensor) -> Tensor:
    """Distances of all pairs, (B, D) to (B, B) float32, with a finite gradient at 0."""
    squares = features.square().sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared.clamp(min=1e-12).sqrt()
