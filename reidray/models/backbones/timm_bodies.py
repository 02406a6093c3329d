"""Create timm models for images of any size.

timm is imported where one of its models is created: it takes a process seconds.
"""

import inspect
from typing import Any

import torch
from torch import nn

from reidray.errors import UserError
from reidray.models.backbones.own_backbones import BACKBONES
from reidray.suggestions import closest_name, quoted


def create_timm_body(
    name: str, size: tuple[int, int] | None = None, *, pretrained: bool = False
) -> nn.Module:
    """Return a timm model without its classifier.

    Args:
        name: timm's name of the model.
        size: height and width of an image in pixels; by default the model's own.
        pretrained: whether timm loads its weights of ImageNet; the weights are random otherwise.

    Raises:
        UserError: timm has no such model, or its weights cannot be loaded.
    """
    import timm

    if not timm.is_model(name):
        near = closest_name(name, [*BACKBONES, *timm.list_models()])
        advice = f": did you mean {near!r}?" if near else ""
        raise UserError(
            f"backbone {quoted(name)} is neither {', '.join(BACKBONES)} nor a timm model{advice}"
        )
    settings: dict[str, Any] = {"num_classes": 0}
    if size is not None and _has_fixed_size(name):
        settings["img_size"] = size
    try:
        body: nn.Module = timm.create_model(name, pretrained=pretrained, **settings)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise UserError(
            f"ImageNet weights of {name} could not be loaded "
            f"({type(error).__name__}): they need a network connection; give a local "
            ".safetensors file in `network.weights`, or none"
        ) from error
    return body


def _has_fixed_size(name: str) -> bool:
    """Return whether a timm model is built for images of one size, as most transformers are.

    The class that the model's function builds is known from a model without memory.
    """
    import timm

    with torch.device("meta"):
        body = timm.create_model(name, num_classes=0)
    return "img_size" in inspect.signature(type(body)).parameters
