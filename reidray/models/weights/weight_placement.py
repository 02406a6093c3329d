"""Find the place of each weight of a file in a network, and fit it to its shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Size, Tensor, nn

from reidray.models.weights.name_alignment import Alignment
from reidray.models.weights.published_layers import PublishedLayers
from reidray.models.weights.resizing import fit_shape
from reidray.models.weights.weight_report import WeightNote
from reidray.models.weights.weight_roles import explain_left_out, is_computed

PARTS_BESIDE = (
    ("heads.bottleneck.0.", "neck."),
    ("heads.bottleneck.1.", "neck."),
    ("heads.bnneck.", "neck."),
    ("heads.pool_layer.p", "backbone.pooling.exponent"),
    ("bottleneck.", "neck."),
    ("bottleneck.", "necks.0."),
    *((f"bottleneck_{part}.", f"necks.{part}.") for part in range(1, 5)),
    ("b2.0.", "backbone.part_block."),
    ("b2.1.", "backbone.part_norm."),
)
"""Prefixes of weights outside the backbone, in files and in networks of ours: the necks of
fast-reid, of Luo et al. 2019 and of TransReID, the exponent of fast-reid's pooling (GeM), and the
block that TransReID runs over parts of an image."""


@dataclass(frozen=True)
class Placement:
    """Hold the places of a file's weights in a network.

    Attributes:
        values: weights by their names in the network.
        problems: shapes in the file of weights that do not fit, by their names in the network.
        changed: weights that were resized or copied.
        left_out: weights of the file without a place.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    problems: dict[str, Size] = field(default_factory=dict)
    changed: list[WeightNote] = field(default_factory=list)
    left_out: list[WeightNote] = field(default_factory=list)


def published_names(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names of a network's weights by the names that published files give them.

    They are the same, but for layers that know other names (`PublishedLayers`).
    """
    renamed = {
        f"{path}.{own}": f"{path}.{published}"
        for path, module in network.named_modules()
        if isinstance(module, PublishedLayers)
        for own, published in module.published_names.items()
    }
    return {renamed.get(name, name): name for name in state}


def place_weights(
    network: nn.Module,
    tensors: Mapping[str, tuple[str, Tensor]],
    state: Mapping[str, Tensor],
    places: Mapping[str, str],
    alignment: Alignment,
) -> Placement:
    """Find the place of each weight of a file, and fit those that depend on the size of images."""
    placed = Placement()
    for name, (file_name, tensor) in sorted(tensors.items()):
        own = _find_place(name, tensor.shape, alignment, places, state)
        if own is None:
            if not is_computed(name):
                reason = explain_left_out(name, alignment.file_prefix)
                placed.left_out.append(WeightNote(file_name, reason))
            continue
        shape = state[own].shape
        fitted = tensor if tensor.shape == shape else fit_shape(tensor, own, shape, network)
        if fitted is None:
            placed.problems[own] = tensor.shape
            reason = describe_mismatch(tensor.shape, shape)
            placed.left_out.append(WeightNote(file_name, reason))
            continue
        placed.values[own] = fitted
        if fitted is not tensor:
            change = f"{_describe(tensor.shape)} resized to {_describe(shape)}"
            placed.changed.append(WeightNote(own, change))
    return placed


def describe_mismatch(there: Size, here: Size) -> str:
    """Return the shapes of a weight in a file and in a network, such as `7x4 in the file and ...`.

    >>> describe_mismatch(Size([7, 4]), Size([5, 4]))
    '7x4 in the file and 5x4 here'
    """
    return f"{_describe(there)} in the file and {_describe(here)} here"


def _find_place(
    name: str,
    shape: Size,
    alignment: Alignment,
    places: Mapping[str, str],
    state: Mapping[str, Tensor],
) -> str | None:
    """Return the name in the network of a weight of a file; None where it has no place there."""
    if name.startswith(alignment.file_prefix):
        rest = name.removeprefix(alignment.file_prefix)
        if alignment.network_prefix + rest in places:
            return places[alignment.network_prefix + rest]
    wrapper = alignment.file_prefix.rstrip(".").rpartition(".")[0]
    inner = name.removeprefix(f"{wrapper}." if wrapper else "")
    for there, here in PARTS_BESIDE:
        own = here + inner.removeprefix(there)
        is_part = alignment.network_prefix and inner.startswith(there)
        if is_part and own in state and state[own].shape == shape:
            return own
    return None


def copy_initial_values(network: nn.Module, state: Mapping[str, Tensor], placed: Placement) -> None:
    """Copy weights of a backbone to the layers that begin as copies of it (`initial_copies`)."""
    for path, module in network.named_modules():
        copies: Mapping[str, str] = getattr(module, "initial_copies", {})
        for copied, original in copies.items():
            first, source = (
                f"{path}.{each}." if path else f"{each}." for each in (copied, original)
            )
            for name in state:
                value = placed.values.get(source + name.removeprefix(first))
                if name.startswith(first) and name not in placed.values and value is not None:
                    placed.values[name] = value
                    placed.changed.append(WeightNote(name, f"copied from {source}*"))


def _describe(shape: Size) -> str:
    return "x".join(map(str, shape)) or "one value"
