"""Define the base of all networks, which scale the pixels of decoded crops themselves."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PixelScaling:
    """Hold the scaling of the pixels of a network: `(pixel / 255 - mean) / deviation` per channel.

    Attributes:
        colour: `rgb`, or `grey` for one channel, the luminance of ITU-R BT.601.
        mean: mean of each channel, in 0..1.
        deviation: standard deviation of each channel, in 0..1.
    """

    colour: Literal["rgb", "grey"]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


IMAGENET_SCALING = PixelScaling("rgb", IMAGENET_MEAN, IMAGENET_DEVIATION)
# The networks of the reports take pixels in 0..1.
UNIT_RGB = PixelScaling("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
UNIT_GREY = PixelScaling("grey", (0.0,), (1.0,))


@dataclass(frozen=True)
class Outputs:
    """Hold the outputs of a network for B crops of people.

    Attributes:
        embedding: (B, D) float32; the distance between two embeddings compares two images. D is 0
            where the network computes no embeddings.
        metric_feature: (B, D) float32 features for losses over pairs or triplets of images.
        identity: (B, people) float32 logits; no column where the network has no identity
            classifier.
        attributes: one (B, values) float32 tensor of logits for each attribute; its softmax over
            the values is their probability.
        parts: outputs of branches over parts of each image, in training. A loss without weights is
            the mean of the loss of the whole image and the mean loss of the parts.
        neck_feature: (B, D) float32 features behind the batch-normalisation neck where the
            embedding precedes it, in training; None otherwise.
    """

    embedding: Tensor
    metric_feature: Tensor
    identity: Tensor
    attributes: tuple[Tensor, ...]
    parts: tuple["Outputs", ...] = ()
    neck_feature: Tensor | None = None

    @property
    def classified_feature(self) -> Tensor:
        """Return the features (B, D) float32 for losses that classify people with own weights."""
        return self.embedding if self.neck_feature is None else self.neck_feature


@dataclass(frozen=True)
class PetOutputs:
    """Hold the outputs of a network for B images of pets.

    Attributes:
        classes: (B, classes) float32 logits; their softmax is the probability of each class.
        masks: (B, 1, H, W) float32 logits, as large as the images; their sigmoid is the probability
            that a pixel shows the animal. (B, 0, H, W) where the network predicts no masks.
        features: (B, D) float32, the input of the layer that computes `classes`; the distance
            between two of them compares two images.
    """

    classes: Tensor
    masks: Tensor
    features: Tensor


class Network(nn.Module):
    """Compute outputs from crops (B, 3, H, W), uint8 or float32 in 0..255.

    Args:
        pixels: scaling of the pixels of a new network. Mean and deviation are saved beside the
            weights, so that a trained network keeps its own.
        embedding_size: length D of the embedding; 0 where the network computes none.

    Attributes:
        colour: `rgb` or `grey`, as in `PixelScaling`.
        embedding_size: length D of the embedding; 0 where the network computes none.
        metric_size: length of the metric feature where it is not D; 0 where it is.
    """

    metric_size: int = 0
    mean: Tensor
    deviation: Tensor

    def __init__(self, pixels: PixelScaling, embedding_size: int = 0) -> None:
        super().__init__()
        self.colour = pixels.colour
        self.embedding_size = embedding_size
        for name, values in (("mean", pixels.mean), ("deviation", pixels.deviation)):
            channels = torch.tensor(np.array(values, dtype=np.float32) * 255)
            self.register_buffer(name, channels.view(1, -1, 1, 1))

    @property
    def pixels(self) -> PixelScaling:
        """Return the scaling of the pixels."""
        mean, deviation = (
            tuple(round(value / 255, 7) for value in buffer.flatten().tolist())
            for buffer in (self.mean, self.deviation)
        )
        return PixelScaling(self.colour, mean, deviation)

    def scale(self, crops: Tensor) -> Tensor:
        """Return crops (B, 3, H, W), uint8 or float32 in 0..255, scaled: (B, C, H, W) float32."""
        images = crops.float()
        if self.colour == "grey":
            red, green, blue = images.unbind(dim=1)
            images = (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)
        if torch.compiler.is_exporting():
            return (images - self.mean) / self.deviation  # two operations of the exported graph
        pixels = images.permute(0, 2, 3, 1).contiguous()
        mean, deviation = self.mean.flatten(), self.deviation.flatten()
        if pixels.device.type != "cpu":
            return (pixels - mean).div_(deviation).permute(0, 3, 1, 2)
        # On a CPU, scaling row by row is three times as fast as channel by channel.
        rows, width = pixels.flatten(2), images.shape[3]
        scaled = (rows - mean.repeat(width)).div_(deviation.repeat(width))
        return scaled.view(pixels.shape).permute(0, 3, 1, 2)
