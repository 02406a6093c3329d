"""Tell the kinds of values of `network.weights` apart, without importing PyTorch."""

from pathlib import Path

NAMED_WEIGHTS = ("none", "imagenet")
"""Values that are neither a place nor a name on a hub."""

MIN_MATCH = 0.9
"""Default of `network.weights_min_match`. Files of the same backbone match by 0.99 and more. Those
of another one match by far less, and a training would begin from almost random weights."""

HUB_PREFIXES = ("hf-hub:", "hf_hub:")
TIMM_PREFIX = "timm/"


def hub_repository(weights: str) -> str | None:
    """Return the repository that a value of `network.weights` names on the Hugging Face hub.

    >>> hub_repository("hf-hub:timm/vit_small_patch16_224.augreg_in1k")
    'timm/vit_small_patch16_224.augreg_in1k'
    >>> hub_repository("timm/resnet50.a1_in1k")
    'timm/resnet50.a1_in1k'

    Returns:
        The repository, perhaps with `@revision`; None where the value is a place or another name.
    """
    for prefix in HUB_PREFIXES:
        if weights.startswith(prefix):
            return weights.removeprefix(prefix)
    is_name = weights.startswith(TIMM_PREFIX) and weights.count("/") == 1
    return weights if is_name and not Path(weights).exists() else None
