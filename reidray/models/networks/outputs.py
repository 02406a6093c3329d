"""What networks say of a batch of images."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """What a network says of B crops of people.

    Attributes:
        embedding: (B, D) float32, what images are compared by; no column where the network gives
            none.
        metric_feature: (B, M) float32, what the triplet loss pulls together and pushes apart.
        identity: (B, people) float32 logits; no column where the network knows nobody.
        attributes: one (B, values) float32 tensor of logits for each attribute; its softmax over
            the values is their probability.
    """

    embedding: Tensor
    metric_feature: Tensor
    identity: Tensor
    attributes: tuple[Tensor, ...]


@dataclass(frozen=True)
class PetOutputs:
    """What a network says of B images of pets.

    Attributes:
        classes: (B, classes) float32 logits; their softmax is the probability of each class.
        masks: (B, 1, H, W) float32 logits, as large as the images; their sigmoid is the probability
            that a pixel is the animal's. (B, 0, H, W) where the network draws no mask.
    """

    classes: Tensor
    masks: Tensor
