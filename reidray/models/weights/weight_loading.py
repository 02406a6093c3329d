"""Match the weights of a file with those of a network by name and shape, and load them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Size, Tensor, nn

from reidray.errors import UserError
from reidray.models.weights.name_alignment import Alignment, align_names
from reidray.models.weights.published_layers import PublishedLayers
from reidray.models.weights.resizing import fit_shape
from reidray.models.weights.source_names import rename_to_timm
from reidray.models.weights.weight_report import WeightNote, WeightReport
from reidray.models.weights.weight_sources import WeightSource

PIXEL_SCALING = ("mean", "deviation")
"""Values of a network that its architecture gives, and no file."""

CLASSIFIER = re.compile(
    r"(^|\.)(fc|head|head\.fc|head_dist|classifier(_\d+)?|last_linear|heads\.(weight|classifier.*)"
    r"|heads\.cls_layer)(\.(weight|bias))?$"
)
"""Names of classifiers in the files of other projects."""

HEAD = re.compile(r"(^|\.)(heads?|bottleneck(_\d+)?|fcneck|pool_layer|pre_logits)\.")
"""Names of what other projects put between a backbone and its classifier."""

COMPUTED = re.compile(r"(^|\.)(relative_position_index|attn_mask|relative_coords_table|pixel_\w+)$")
"""Names of values that follow from the size of an image, or from a setting."""

COUNTER = "num_batches_tracked"

NECKS = ("heads.bottleneck.0.", "heads.bottleneck.1.", "heads.bnneck.", "bottleneck.")
"""Prefixes of the batch-normalisation neck of fast-reid, and of the strong baseline (TransReID)."""

OUR_NECK = "neck."


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
        UserError: no weight fits, fewer match than `min_match`, or the first convolution takes
            another number of channels.
    """
    state = {
        name: value for name, value in network.state_dict().items() if name not in PIXEL_SCALING
    }
    places = _published_names(network, state)
    convention, tensors = rename_to_timm(source.tensors())
    alignment = align_names(
        {name: tensor.shape for name, (_, tensor) in tensors.items()},
        {published: state[own].shape for published, own in places.items()},
    )
    values: dict[str, Tensor] = {}
    problems: dict[str, str] = {}
    resized, left_out = [], []
    for name, (file_name, tensor) in sorted(tensors.items()):
        own = _find_place(name, alignment, places)
        if own is None:
            if not _is_computed(name):
                left_out.append(WeightNote(file_name, _explain_left_out(name, alignment)))
            continue
        shape = state[own].shape
        fitted = tensor if tensor.shape == shape else fit_shape(tensor, own, shape, network)
        if fitted is None:
            problems[own] = f"{_describe(tensor.shape)} in the file and {_describe(shape)} here"
            left_out.append(WeightNote(file_name, problems[own]))
            continue
        values[own] = fitted
        if fitted is not tensor:
            change = f"{_describe(tensor.shape)} resized to {_describe(shape)}"
            resized.append(WeightNote(own, change))
    _check_first_convolution(network, state, problems, source)
    match = _matched_share(network, values, alignment, tensors)
    report = WeightReport(
        source=source.name,
        kind=source.kind,
        file_names=_describe_names(alignment.file_prefix, convention),
        network_names=f"{alignment.network_prefix}*" if _is_renamed(alignment, convention) else "",
        match=match,
        tensors=len(values),
        parameters=sum(
            value.numel() for name, value in network.named_parameters() if name in values
        ),
        resized=tuple(resized),
        missing=tuple(_find_missing(network, state, values, problems)),
        left_out=tuple(left_out),
        notes=_find_notes(tensors),
    )
    _check_match(report, min_match)
    return Match(values, report)


def backbone_prefix(network: nn.Module) -> str:
    """Return the prefix of the names of a network's backbone; empty where it has none apart."""
    return "backbone." if isinstance(getattr(network, "backbone", None), nn.Module) else ""


def _published_names(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, str]:
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


def _find_place(name: str, alignment: Alignment, places: Mapping[str, str]) -> str | None:
    """Return the name in the network of a weight of a file; None where it has no place there."""
    if name.startswith(alignment.file_prefix):
        rest = name.removeprefix(alignment.file_prefix)
        if alignment.network_prefix + rest in places:
            return places[alignment.network_prefix + rest]
    wrapper = alignment.file_prefix.rstrip(".").rpartition(".")[0]
    inner = name.removeprefix(f"{wrapper}." if wrapper else "")
    for neck in NECKS:
        if alignment.network_prefix and inner.startswith(neck):
            return places.get(OUR_NECK + inner.removeprefix(neck))
    return None


def _explain_left_out(name: str, alignment: Alignment) -> str:
    """Return the reason why a weight of a file has no place in a network."""
    if CLASSIFIER.search(name):
        return "a classifier"
    if HEAD.search(name):
        return "a head"
    if not name.startswith(alignment.file_prefix):
        return f"outside of {alignment.file_prefix}*"
    return "the network has no such weight"


def _find_missing(
    network: nn.Module,
    state: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    problems: Mapping[str, str],
) -> list[WeightNote]:
    """Return the weights of a network that a file does not fill."""
    backbone = backbone_prefix(network)
    return [
        WeightNote(
            name,
            problems.get(name, "absent" if name.startswith(backbone) else "a head, begins anew"),
        )
        for name in state
        if name not in values and not _is_computed(name)
    ]


def _matched_share(
    network: nn.Module,
    values: Mapping[str, Tensor],
    alignment: Alignment,
    tensors: Mapping[str, tuple[str, Tensor]],
) -> float:
    """Return the share of the backbone's parameters that a file fills, or of the file's it takes.

    The smaller of the two: half of a deep network fills a shallow one, and is another network.
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
    is_head = CLASSIFIER.search(name) or HEAD.search(name)
    return place.startswith(backbone) and not is_head and not _is_computed(name)


def _is_computed(name: str) -> bool:
    return name.endswith(COUNTER) or COMPUTED.search(name) is not None


def _submodule(network: nn.Module, prefix: str) -> nn.Module:
    return network.get_submodule(prefix.rstrip("."))


def _check_first_convolution(
    network: nn.Module,
    state: Mapping[str, Tensor],
    problems: Mapping[str, str],
    source: WeightSource,
) -> None:
    """Refuse weights for images of another number of channels.

    Raises:
        UserError: the first convolution of the backbone takes another number of channels.
    """
    backbone = backbone_prefix(network)
    kernels = [
        name for name, value in state.items() if value.ndim == 4 and name.startswith(backbone)
    ]
    if kernels and kernels[0] in problems:
        raise UserError(
            f"`network.weights` {source.name}: its first convolution {kernels[0]} is "
            f"{problems[kernels[0]]}: give weights of this backbone, for images of "
            f"{state[kernels[0]].shape[1]} channels"
        )


def _check_match(report: WeightReport, min_match: float) -> None:
    """Check that enough of the weights match.

    Raises:
        UserError: none does, or fewer than `min_match`.
    """
    if report.tensors and report.match > 0 and report.match >= min_match:
        return
    of_backbone = [note for note in report.missing if note.reason != "a head, begins anew"]
    first = next(iter([*of_backbone, *report.left_out]), None)
    example = f", such as {first.name} ({first.reason})" if first else ""
    raise UserError(
        f"`network.weights` {report.source}: {report.match:.1%} of the parameters match the "
        f"backbone, and `network.weights_min_match` asks for {min_match:.0%}; others do "
        f"not{example}: choose the backbone that the weights are of"
    )


def _find_notes(tensors: Mapping[str, object]) -> tuple[str, ...]:
    """Return what a user should know of a file beside its weights."""
    if any("semantic_embed_w" in name for name in tensors):
        return (
            "SOLIDER's semantic controller has no place in timm's Swin: features differ from "
            "SOLIDER's until the training adapts them",
        )
    return ()


def _is_renamed(alignment: Alignment, convention: str) -> bool:
    return bool(convention) or alignment.file_prefix != alignment.network_prefix


def _describe_names(prefix: str, convention: str) -> str:
    return f"{prefix}* ({convention})" if convention else f"{prefix}*"


def _describe(shape: Size) -> str:
    return "x".join(map(str, shape)) or "one value"
