"""Losses of re-identification, classes, attributes and masks, on plain tensors."""

import torch
from torch import Tensor
from torch.nn import functional


def label_loss(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016).

    Args:
        logits: (B, labels) float32; a label is a training person or a class.
        labels: (B,) int64.
        smoothing: share of the target spread over all labels, in 0..1.

    Returns:
        () float32, the mean over the batch.
    """
    return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of each pixel.

    Args:
        logits: (B, 1, H, W) float32.
        masks: (B, H, W) uint8, 1 where the animal is and 0 elsewhere.

    Returns:
        () float32, the mean over the pixels.
    """
    return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), masks.float())


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
    return _hinge(gap, margin)


def semi_hard_triplet_loss(features: Tensor, people: Tensor, *, margin: float) -> Tensor:
    """Triplet loss over each anchor and positive, with a negative just behind it (Schroff 2015).

    The negative is the nearest one that is farther from the anchor than the positive; where none
    is, the farthest.

    Args:
        features: (B, D) float32, of length 1 by custom.
        people: (B,) int64.
        margin: by how much the negative must be farther; 0 takes the soft margin.

    Returns:
        () float32, the mean over the pairs of an anchor and a positive; 0 without any.
    """
    features = features.float()
    distances = euclidean_distances(features)
    same = people[:, None] == people[None, :]
    anchor, positive = torch.nonzero(same.fill_diagonal_(False), as_tuple=True)
    pulled = distances[anchor, positive]
    candidates = distances.masked_fill(people[:, None] == people[None, :], torch.inf)[anchor]
    behind = candidates.masked_fill(candidates <= pulled[:, None], torch.inf).amin(dim=1)
    farthest = candidates.masked_fill(candidates == torch.inf, -torch.inf).amax(dim=1)
    pushed = torch.where(behind == torch.inf, farthest, behind)
    gap = (pulled - pushed)[torch.isfinite(pushed)]
    if gap.numel() == 0:
        return features.sum() * 0.0
    return _hinge(gap, margin)


def euclidean_distances(features: Tensor) -> Tensor:
    """Distances of all pairs, (B, D) to (B, B) float32, with a finite gradient at 0."""
    squares = features.square().sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared.clamp(min=1e-12).sqrt()


def _hinge(gap: Tensor, margin: float) -> Tensor:
    """Mean of what the gaps lack of the margin; at margin 0 of `log(1 + exp(gap))`."""
    return functional.softplus(gap).mean() if margin == 0 else functional.relu(gap + margin).mean()
