"""Create timm models for images of any size.

timm is imported where one of its models is created: it takes a process seconds.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reidray.errors import UserError
from reidray.models.backbones.own_backbones import BACKBONES
from reidray.suggestions import closest_name, quoted, suggest_name

ImageSize = tuple[int, int]
"""Height and width of an image in pixels."""

LIKELY_MULTIPLES = (8, 14, 16, 28, 32, 64)
"""Multiples of which models take the sides of images, as their patches, windows and strides are."""


INITIALISERS = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_)
"""Functions that take long for weights without memory, although they change nothing there."""


@contextmanager
def without_memory() -> Iterator[None]:
    """Make tensors without memory within the block, and skip the initialisation of weights."""
    with torch.device("meta"), _WithoutInitialisation():
        yield


class _WithoutInitialisation(TorchFunctionMode):
    """Skip `INITIALISERS`, which make PyTorch import much."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, unless it is an initialiser."""
        return args[0] if func in INITIALISERS else func(*args, **(kwargs or {}))


def create_timm_body(
    name: str, size: ImageSize | None = None, *, pretrained: bool = False
) -> nn.Module:
    """Return a timm model without its classifier.

    Args:
        name: timm's name of the model.
        size: height and width of an image in pixels; by default the model's own.
        pretrained: whether timm loads its weights of ImageNet; the weights are random otherwise.

    Raises:
        UserError: timm has no such model, it cannot be built for images of this size, or its
            weights do not exist or cannot be loaded.
    """
    import timm

    if not timm.is_model(name):
        near = closest_name(name, [*BACKBONES, *timm.list_models()])
        advice = f": did you mean {near!r}?" if near else ""
        raise UserError(
            f"backbone {quoted(name)} is neither {', '.join(BACKBONES)} nor a timm model{advice}"
        )
    if not _has_weights(name) and pretrained:
        raise UserError(
            f"timm has no ImageNet weights of backbone {name}: use `network.weights=none` or a "
            "file of weights, or a timm model such as `network.backbone=resnet50`"
        )
    try:
        return _create(name, size, pretrained=pretrained)
    except Exception as error:
        if pretrained and isinstance(error, OSError | RuntimeError):
            raise UserError(
                f"ImageNet weights of {name} could not be loaded "
                f"({type(error).__name__}): they need a network connection; give a local "
                "file of weights in `network.weights`, or none"
            ) from error
        if size is None:
            raise
        raise unfit_size(name, size, one_line(error)) from error


def find_mistake(backbone: nn.Module, body: Any, size: ImageSize, features: int) -> str | None:
    """Return why a backbone gives no feature for an image of a size; None where it gives one.

    The backbone runs once over a black image, in evaluation mode.

    Args:
        backbone: module that maps images to features.
        body: the model of timm, or a registered one, in it.
        size: height and width of an image in pixels.
        features: length of a feature.
    """
    for layer in ("patch_embed", "stem"):  # in transformers, in MLP-Mixer and its like
        patch = getattr(getattr(body, layer, None), "patch_size", None)
        if isinstance(patch, tuple) and any(
            side % each for side, each in zip(size, patch, strict=True)
        ):
            return f"its patches are {patch[0]}x{patch[1]} pixels"
    image = torch.zeros(1, 3, *size, device=next(body.parameters()).device)
    was_training = backbone.training
    try:
        with torch.inference_mode():
            feature = backbone.eval()(image)
    except Exception as error:  # each model of timm has its own errors
        return one_line(error)
    finally:
        backbone.train(was_training)
    shape = getattr(feature, "shape", ())
    if tuple(shape) != (1, features):
        return f"it returns the shape {tuple(shape)} instead of (1, {features})"
    if not feature.is_meta and not feature.isfinite().all():
        return "its feature is not finite"
    return None


def feature_length(body: Any) -> int:
    """Return the length of a model's feature; 0 where it has none."""
    # Some models, such as MobileNetV3, widen the feature after the pooling.
    widened: Any = getattr(body, "head_hidden_size", None)
    return int(widened or getattr(body, "num_features", 0))


def unfit_size(name: str, size: ImageSize, reason: str) -> UserError:
    """Return the error of a backbone that cannot take images of a size, with a size that it can."""
    for fitting in _similar_sizes(name, size):
        with torch.device("meta"):
            try:
                body = _create(name, fitting)
                mistake = find_mistake(body, body, fitting, feature_length(body))
            except Exception:  # each model of timm has its own errors
                continue
        if mistake is None:
            advice = f"use `network.height={fitting[0]}` and `network.width={fitting[1]}`"
            break
    else:
        advice = "choose another `network.backbone`"
    return UserError(
        f"backbone {name} cannot take images of {size[0]}x{size[1]} pixels ({reason}): {advice}"
    )


def one_line(error: Exception) -> str:
    """Return the message of an error in one line, or its kind where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _create(name: str, size: ImageSize | None, *, pretrained: bool = False) -> nn.Module:
    """Return a registered backbone, or a timm model without its classifier for images of a size."""
    if name in BACKBONES:
        return BACKBONES.get(name)()
    import timm

    settings: dict[str, Any] = {"num_classes": 0}
    if size is not None and _has_fixed_size(name):
        settings["img_size"] = size
    body: nn.Module = timm.create_model(name, pretrained=pretrained, **settings)
    return body


def _has_weights(name: str) -> bool:
    """Return whether timm has weights of a model, whose name may end in a dot and their tag.

    Raises:
        UserError: timm knows no such tag.
    """
    import timm

    try:
        weights = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        plain = name.partition(".")[0]
        known = [plain, *timm.list_pretrained(f"{plain}.*")]
        raise UserError(
            f"backbone {quoted(name)} is no timm model: {suggest_name(name, known)}"
        ) from error
    return weights is not None and bool(weights.has_weights)


@cache
def _has_fixed_size(name: str) -> bool:
    """Return whether a timm model is built for images of one size, as most transformers are.

    A model without memory shows the class that the model's function builds.
    """
    import timm

    with without_memory():
        body = timm.create_model(name, num_classes=0)
    classes = [each for each in type(body).__mro__ if issubclass(each, nn.Module)]
    return any("img_size" in inspect.signature(each).parameters for each in classes)


def _similar_sizes(name: str, size: ImageSize) -> Iterator[ImageSize]:
    """Yield sizes near a size, then the one of the model's pretrained weights."""
    import timm

    for multiple in LIKELY_MULTIPLES:
        height, width = (max(round(side / multiple), 1) * multiple for side in size)
        yield height, width
    pretrained = timm.get_pretrained_cfg(name)
    if pretrained is not None and pretrained.input_size:
        yield pretrained.input_size[1:]
