"""Define the network of an exported file, which takes pixels and returns named tensors."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.models import LoadedModel, Outputs, PetOutputs
from reidray.models.networks.network import PixelScaling

IMAGES = "images"
"""Name of the input of an exported file."""

EMBEDDING, CLASS, MASK = "embedding", "class", "mask"
"""Names of outputs; those of attributes are the columns of a manifest, such as `attr_gender`."""


@dataclass(frozen=True)
class ExportForm:
    """Hold the form of the input and of the embeddings of an exported file.

    Attributes:
        pixels: `uint8` RGB pixels, or `float32` pixels that the caller has scaled.
        normalized: whether embeddings have length 1.
    """

    pixels: Literal["uint8", "float32"]
    normalized: bool


class ExportedNetwork(nn.Module):
    """Compute the outputs of a trained network as a tuple of tensors.

    Attributes:
        form: form of the input and of the embeddings.
        output_names: the name of each output that the network has.
    """

    def __init__(self, model: LoadedModel, form: ExportForm) -> None:
        """Copy the network of a model.

        Args:
            model: the model; it stays as it is.
            form: form of the input and of the embeddings.
        """
        super().__init__()
        self.network = copy.deepcopy(model.network).cpu().eval().requires_grad_(False)
        self.form = form
        if form.pixels == "float32":  # the caller has scaled the pixels
            self.network.mean.zero_()
            self.network.deviation.fill_(1)
        self._attribute_names = model.architecture.schema.columns
        with torch.inference_mode():
            outputs = self._named(self.network(torch.zeros(1, 3, *model.architecture.size)))
        self.output_names = tuple(outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for images (B, 3, H, W), uint8 or float32 as the form says."""
        return tuple(self._named(self.network(images)).values())

    def _named(self, outputs: Outputs | PetOutputs) -> dict[str, Tensor]:
        """Return embeddings (B, D), and the probabilities of attributes, classes and masks."""
        named: dict[str, Tensor] = {}
        if isinstance(outputs, PetOutputs):
            named[CLASS] = outputs.classes.float().softmax(dim=1)
            if outputs.masks.shape[1]:
                named[MASK] = outputs.masks.float().sigmoid()
            return named
        if outputs.embedding.shape[1]:
            embedding = outputs.embedding.float()
            named[EMBEDDING] = (
                functional.normalize(embedding) if self.form.normalized else embedding
            )
        for name, logits in zip(self._attribute_names, outputs.attributes, strict=True):
            named[name] = logits.float().softmax(dim=1)
        return named


def choose_form(
    model: LoadedModel, pixels: Literal["uint8", "float32"], normalize: Literal["auto", "yes", "no"]
) -> ExportForm:
    """Return the form of an export; `auto` normalises embeddings that cosine distances compare."""
    normalized = model.card.metric == "cosine" if normalize == "auto" else normalize == "yes"
    return ExportForm(pixels, normalized and bool(model.network.embedding_size))


def scale_pixels(images: Tensor, scaling: PixelScaling) -> Tensor:
    """Return images (B, 3, H, W) uint8 as a caller scales them: (B, 3, H, W) float32.

    A network that takes one channel weights red, green and blue by numbers whose sum is 1, so that
    the scaling of its channel is that of the three.
    """
    mean, deviation = (
        torch.tensor(rgb_values(values)).view(1, 3, 1, 1)
        for values in (scaling.mean, scaling.deviation)
    )
    return (images.float() / 255 - mean) / deviation


def rgb_values(values: tuple[float, ...]) -> list[float]:
    """Return a value for each of red, green and blue.

    >>> rgb_values((0.5,))
    [0.5, 0.5, 0.5]
    """
    return list(values) * (3 // len(values))


def example_images(model: LoadedModel, form: ExportForm, count: int = 2) -> Tensor:
    """Return images of the shape and type that an exported file takes, for tracing."""
    images = torch.zeros(count, 3, *model.architecture.size, dtype=torch.uint8)
    return images if form.pixels == "uint8" else images.float()
