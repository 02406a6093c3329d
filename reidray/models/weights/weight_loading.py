"""Match the weights of a file with those of a network by name and shape, and load them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Size, Tensor, nn

from reidray.errors import UserError
from reidray.models.networks.network import Network, PixelScaling
from reidray.models.weights.name_alignment import Alignment, align_names
from reidray.models.weights.published_layers import PublishedLayers
from reidray.models.weights.source_names import rename_to_timm
from reidray.models.weights.weight_placement import (
    Placement,
    copy_initial_values,
    describe_mismatch,
    place_weights,
    published_names,
)
from reidray.models.weights.weight_report import WeightNote, WeightReport
from reidray.models.weights.weight_roles import is_computed, is_head
from reidray.models.weights.weight_sources import WeightSource

ABSENT = "absent"
HEAD_BEGINS_ANEW = "a head, begins anew"

PIXEL_SCALING = ("mean", "deviation")
"""Values of a network that come from its architecture and never from a file."""


@dataclass(frozen=True)
class Match:
    """Hold the weights of a file for a network.

    Attributes:
        values: weights by their names in the network.
        report: what became of each weight.
    """

    values: Mapping[str, Tensor]
    report: WeightReport


def load_weights(
    network: nn.Module, source: WeightSource, *, min_match: float = 0.0
) -> WeightReport:
    """Load weights of a file into a network, and report which ones.

    What the file lacks keeps its value, and what the network has no place for is left out.

    Args:
        network: the network.
        source: the weights.
        min_match: least share of the backbone to fill, in 0..1.

    Raises:
        UserError: `match_weights` refuses the weights.
    """
    found = match_weights(network, source, min_match=min_match)
    own = network.state_dict()
    with torch.no_grad():
        for name, value in found.values.items():
            own[name].copy_(value)
    return found.report


def match_weights(network: nn.Module, source: WeightSource, *, min_match: float = 0.0) -> Match:
    """Match the weights of a file with those of a network, which may have no memory.

    Args:
        network: the network.
        source: the weights.
        min_match: least share of the backbone to fill, in 0..1.

    Raises:
        UserError: the weights are damaged, none fits, fewer match than `min_match`, or the first
            convolution takes another number of channels.
    """
    state = {
        name: value for name, value in network.state_dict().items() if name not in PIXEL_SCALING
    }
    places = published_names(network, state)
    convention, tensors = rename_to_timm(source.tensors())
    scaling = _take_scaling(tensors)
    alignment = align_names(
        {name: tensor.shape for name, (_, tensor) in tensors.items()},
        {published: state[own].shape for published, own in places.items()},
    )
    placed = place_weights(network, tensors, state, places, alignment)
    copy_initial_values(network, state, placed)
    _check_finite(placed.values, source)
    _check_first_convolution(network, state, placed.problems, source)
    parameters = dict(network.named_parameters())
    report = WeightReport(
        source=source.name,
        kind=source.kind,
        file_names=_describe_names(alignment.file_prefix, convention),
        network_names=f"{alignment.network_prefix}*" if _is_renamed(alignment, convention) else "",
        match=_matched_share(network, placed.values, alignment, tensors),
        tensors=len(placed.values),
        parameters=sum(parameters[name].numel() for name in placed.values if name in parameters),
        changed=tuple(placed.changed),
        missing=tuple(_find_missing(network, state, placed)),
        left_out=tuple(placed.left_out),
        notes=tuple(_find_notes(network, tensors, scaling)),
    )
    _check_match(report, min_match)
    return Match(placed.values, report)


def backbone_prefix(network: nn.Module) -> str:
    """Return the prefix of the names of a network's backbone; empty where it has none apart."""
    return "backbone." if isinstance(getattr(network, "backbone", None), nn.Module) else ""


def _find_missing(
    network: nn.Module, state: Mapping[str, Tensor], placed: Placement
) -> list[WeightNote]:
    """Return the weights of a network that a file does not fill."""
    backbone = backbone_prefix(network)
    missing = []
    for name, value in state.items():
        if name in placed.values or is_computed(name):
            continue
        if name in placed.problems:
            reason = describe_mismatch(placed.problems[name], value.shape)
        else:
            reason = ABSENT if name.startswith(backbone) else HEAD_BEGINS_ANEW
        missing.append(WeightNote(name, reason))
    return missing


def _matched_share(
    network: nn.Module,
    values: Mapping[str, Tensor],
    alignment: Alignment,
    tensors: Mapping[str, tuple[str, Tensor]],
) -> float:
    """Return how well a file and the backbone match, as a share of their parameters in 0..1.

    It is the smaller of two shares: that of the backbone's parameters which the file fills, and
    that of the file's parameters which the backbone takes. Half of a deep network may fill a
    shallow one, and is another network.
    """
    backbone = backbone_prefix(network)
    sizes = {
        name: value.numel()
        for name, value in network.named_parameters()
        if name.startswith(backbone)
    }
    filled = sum(size for name, size in sizes.items() if name in values)
    share = filled / max(1, sum(sizes.values()))
    if isinstance(_submodule(network, alignment.network_prefix), PublishedLayers):
        return share  # other layers of the published network are left out on purpose
    offered = sum(
        tensor.numel()
        for name, (_, tensor) in tensors.items()
        if name.startswith(alignment.file_prefix) and _is_of_backbone(name, alignment, backbone)
    )
    taken = sum(value.numel() for name, value in values.items() if name.startswith(backbone))
    return min(share, taken / max(1, offered), 1.0)


def _is_of_backbone(name: str, alignment: Alignment, backbone: str) -> bool:
    """Return whether a weight of a file would belong to the backbone of a network."""
    place = alignment.network_prefix + name.removeprefix(alignment.file_prefix)
    return place.startswith(backbone) and not is_head(name) and not is_computed(name)


def _submodule(network: nn.Module, prefix: str) -> nn.Module:
    return network.get_submodule(prefix.rstrip("."))


def _check_first_convolution(
    network: nn.Module,
    state: Mapping[str, Tensor],
    problems: Mapping[str, Size],
    source: WeightSource,
) -> None:
    """Refuse weights whose first convolution does not fit, as for images of other channels.

    Raises:
        UserError: the first convolution of the backbone has another shape in the file.
    """
    backbone = backbone_prefix(network)
    kernels = [
        name for name, value in state.items() if value.ndim == 4 and name.startswith(backbone)
    ]
    if not kernels or kernels[0] not in problems:
        return
    there, here = problems[kernels[0]], state[kernels[0]].shape
    if len(there) != len(here):
        advice = "the one in the file is no convolution; give weights of this backbone"
    elif there[1] != here[1]:
        advice = f"give weights of this backbone, for images of {here[1]} channels"
    else:
        advice = "choose the backbone that the weights are of"
    raise UserError(
        f"`network.weights` {source.name}: its first convolution {kernels[0]} is "
        f"{describe_mismatch(there, here)}: {advice}"
    )


def _check_match(report: WeightReport, min_match: float) -> None:
    """Check that enough of the weights match.

    Raises:
        UserError: none does, or fewer than `min_match`.
    """
    if report.tensors and report.match > 0 and report.match >= min_match:
        return
    of_backbone = [note for note in report.missing if note.reason != HEAD_BEGINS_ANEW]
    too_many = [note for note in report.left_out if not is_head(note.name)]
    first = next(iter([*of_backbone, *too_many]), None)
    example = f", such as {first.name} ({first.reason})" if first else ""
    raise UserError(
        f"`network.weights` {report.source}: {report.match:.1%} of the parameters match the "
        f"backbone, and `network.weights_min_match` asks for {min_match:.0%}; others do "
        f"not{example}: choose the backbone that the weights are of"
    )


def _check_finite(values: Mapping[str, Tensor], source: WeightSource) -> None:
    """Refuse values that are infinite or no numbers, as a training that diverged leaves them.

    Raises:
        UserError: names the first weight that holds one.
    """
    for name, value in values.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f"`network.weights` {source.name}: {name} holds values that are not finite: "
                "give the weights of an earlier epoch"
            )


def _take_scaling(tensors: dict[str, tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Take the scaling of pixels, which is no weight, out of the tensors of a model of ours.

    Returns:
        The scaling by name; empty where the file is of another project.
    """
    if not all(name in tensors for name in PIXEL_SCALING):
        return {}
    return {name: tensors.pop(name)[1] for name in PIXEL_SCALING}


def _find_notes(
    network: nn.Module,
    tensors: Mapping[str, tuple[str, Tensor]],
    scaling: Mapping[str, Tensor],
) -> Iterator[str]:
    """Yield what a user should know of a file beside its weights."""
    if any("semantic_embed_w" in name for name in tensors):
        yield (
            "SOLIDER's semantic controller has no place in timm's Swin: features differ from "
            "SOLIDER's until the training adapts them"
        )
    if not scaling or not isinstance(network, Network) or network.mean.is_meta:
        return
    if _is_scaled_otherwise(network.pixels, scaling):
        yield "the model was trained on pixels that were scaled otherwise than they are here"


def _is_scaled_otherwise(pixels: PixelScaling, scaling: Mapping[str, Tensor]) -> bool:
    """Return whether the model of a file scales pixels otherwise."""
    for name, values in zip(PIXEL_SCALING, (pixels.mean, pixels.deviation), strict=True):
        there = scaling[name].flatten() / 255
        here = torch.tensor(values)
        if there.shape != here.shape or not torch.allclose(there, here, atol=1e-3):
            return True
    return False


def _is_renamed(alignment: Alignment, convention: str) -> bool:
    return bool(convention) or alignment.file_prefix != alignment.network_prefix


def _describe_names(prefix: str, convention: str) -> str:
    return f"{prefix}* ({convention})" if convention else f"{prefix}*"
