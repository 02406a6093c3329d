"""Give the weights of other projects the names and the order that timm gives them.

Torchreid, fast-reid and TransReID name the layers of a ResNet and of a ViT as timm does, and OSNet
has Torchreid's names here. With its jigsaw branch, TransReID trains copies of the last block and of
the last normalisation in their place, and `base` keeps those that it began with. A Swin differs:
SOLIDER follows MMCV, and the model's authors put the merging of patches at the end of a stage. timm
puts it at the start of the next one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Tensors = Mapping[str, Tensor]

MMCV_NAMES = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"(^|\.)norm3\.(weight|bias)$", r"\1norm.\2"),
)
"""Patterns of MMCV's names of a Swin, and timm's names. `norm3` normalises the last stage."""

BLOCK = r"(?:^|\.)base\.blocks\.(\d+)\."
"""A block of TransReID's transformer."""

UNFOLDED = [0, 2, 1, 3]
"""Places, in the order of `torch.nn.Unfold`, of the four patches that timm merges."""


@dataclass(frozen=True)
class Convention:
    """Describe the names of a project.

    Attributes:
        name: what the report calls it.
        applies: whether weights have these names.
        rename: return the weights under timm's names, each with its earlier name.
    """

    name: str
    applies: Callable[[Tensors], bool]
    rename: Callable[[Tensors], dict[str, tuple[str, Tensor]]]


def rename_to_timm(tensors: Tensors) -> tuple[str, dict[str, tuple[str, Tensor]]]:
    """Return the convention of the weights' names, and the weights under timm's names.

    Args:
        tensors: weights by name.

    Returns:
        The name of the convention, empty for timm's own, and the weights by timm's names, each with
        the name that it had.
    """
    for convention in CONVENTIONS:
        if convention.applies(tensors):
            return convention.name, convention.rename(tensors)
    return "", {name: (name, tensor) for name, tensor in tensors.items()}


def _is_mmcv_swin(tensors: Tensors) -> bool:
    return any(".attn.w_msa." in name for name in tensors)


def _is_original_swin(tensors: Tensors) -> bool:
    return any(re.search(r"(^|\.)layers\.0\.downsample\.reduction\.", name) for name in tensors)


def _has_jigsaw_branch(tensors: Tensors) -> bool:
    return any(re.search(r"(^|\.)b1\.0\.norm1\.", name) for name in tensors) and any(
        re.search(BLOCK, name) for name in tensors
    )


def _rename_jigsaw_branch(tensors: Tensors) -> dict[str, tuple[str, Tensor]]:
    last = max(int(found[1]) for name in tensors if (found := re.search(BLOCK, name)))
    renamed: dict[str, tuple[str, Tensor]] = {}
    trained: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors.items():
        new = re.sub(r"(^|\.)b1\.0\.", rf"\1base.blocks.{last}.", name)
        new = re.sub(r"(^|\.)b1\.1\.", r"\1base.norm.", new)
        (renamed if new == name else trained)[new] = (name, tensor)
    return renamed | trained


def _rename_mmcv_swin(tensors: Tensors) -> dict[str, tuple[str, Tensor]]:
    renamed = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, replacement in MMCV_NAMES:
            new = re.sub(pattern, replacement, new)
        new = re.sub(r"(^|\.)stages\.(\d+)\.downsample\.", _in_next_stage, new)
        new = re.sub(r"(^|\.)stages\.(\d+)\.blocks\.", r"\1layers.\2.blocks.", new)
        renamed[new] = (name, _reorder_merged(tensor) if ".downsample." in new else tensor)
    return renamed


def _rename_original_swin(tensors: Tensors) -> dict[str, tuple[str, Tensor]]:
    pattern = re.compile(r"(^|\.)layers\.(\d+)\.downsample\.")
    return {pattern.sub(_in_next_stage, name): (name, tensor) for name, tensor in tensors.items()}


def _in_next_stage(found: re.Match[str]) -> str:
    return f"{found[1]}layers.{int(found[2]) + 1}.downsample."


def _reorder_merged(tensor: Tensor) -> Tensor:
    """Return the weights of merged patches, their last axis in timm's order.

    `torch.nn.Unfold` orders the values by channel, then row, then column; timm orders them by
    column, then row, then channel.

    Args:
        tensor: (..., 4 C).
    """
    if tensor.ndim == 0 or tensor.shape[-1] % 4:
        return tensor
    by_channel = tensor.reshape(*tensor.shape[:-1], -1, 4)
    return by_channel.transpose(-1, -2)[..., UNFOLDED, :].reshape(tensor.shape)


CONVENTIONS = (
    Convention("MMCV's Swin, as of SOLIDER", _is_mmcv_swin, _rename_mmcv_swin),
    Convention("TransReID with a jigsaw branch", _has_jigsaw_branch, _rename_jigsaw_branch),
    Convention("the Swin of its authors", _is_original_swin, _rename_original_swin),
)
"""Names that differ from timm's."""
