"""Fit position embeddings, patch embeddings and position biases to images of another size."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

DISTILLED = 2
"""Tokens before the patches of a DeiT with a distillation token, which comes after the class's."""


def fit_shape(tensor: Tensor, name: str, shape: torch.Size, network: nn.Module) -> Tensor | None:
    """Return a weight that depends on the size of images in another shape.

    Args:
        tensor: the weight of a file.
        name: name of the weight in the network.
        shape: its shape in the network.
        network: the network, of timm's layers, which may have no memory.

    Returns:
        The weight in the network's shape; None where it cannot be resized.
    """
    path, _, own_name = name.rpartition(".")
    owner: Any = network.get_submodule(path)
    if own_name == "pos_embed" and tensor.ndim == 3:
        return _fit_positions(tensor, shape, owner)
    if own_name == "relative_position_bias_table" and tensor.ndim == 2:
        return _fit_position_biases(tensor, shape, owner)
    is_patches = path.endswith("patch_embed.proj") and own_name == "weight"
    if is_patches and tensor.ndim == 4 and tensor.shape[:2] == shape[:2]:
        from timm.layers import resample_patch_embed

        return resample_patch_embed(tensor.float(), list(shape[2:]))  # type: ignore[no-any-return]
    return None


def _fit_positions(tensor: Tensor, shape: torch.Size, owner: Any) -> Tensor | None:
    """Return absolute position embeddings (1, T, C) for the patches of a transformer of timm."""
    from timm.layers import resample_abs_pos_embed

    grid = getattr(getattr(owner, "patch_embed", None), "grid_size", None)
    if grid is None or tensor.shape[2] != shape[2]:
        return None
    first = shape[1] - math.prod(grid)
    if first < 0:
        return None
    old = _find_grid(tensor.shape[1] - first, grid)
    if first == 1 and old is None:
        old = _find_grid(tensor.shape[1] - DISTILLED, grid)
        tensor = torch.cat([tensor[:, :1], tensor[:, DISTILLED:]], dim=1)
    if old is None:
        return None
    resized: Tensor = resample_abs_pos_embed(
        tensor.float(), new_size=list(grid), old_size=list(old), num_prefix_tokens=first
    )
    return resized if resized.shape == shape else None


def _find_grid(patches: int, like: tuple[int, int]) -> tuple[int, int] | None:
    """Return the rows and columns of a number of patches: a square, or nearest to a grid's shape.

    >>> _find_grid(196, (16, 8)), _find_grid(210, (16, 8)), _find_grid(197, (16, 8))
    ((14, 14), (21, 10), None)
    """
    if patches < 1:
        return None
    side = math.isqrt(patches)
    if side * side == patches:
        return side, side
    sides = [rows for rows in range(2, patches // 2 + 1) if patches % rows == 0]
    if not sides:
        return None
    wanted = math.log(like[0] / like[1])
    rows = min(sides, key=lambda each: abs(math.log(each * each / patches) - wanted))
    return rows, patches // rows


def _fit_position_biases(tensor: Tensor, shape: torch.Size, owner: Any) -> Tensor | None:
    """Return the biases of relative positions in a window, (P, heads), for another window."""
    from timm.layers import resize_rel_pos_bias_table

    window = getattr(owner, "window_size", None)
    side = math.isqrt(tensor.shape[0])
    if window is None or side * side != tensor.shape[0] or tensor.shape[1] != shape[1]:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on how timm indexes tensors
        resized: Tensor = resize_rel_pos_bias_table(
            tensor.float(), new_window_size=tuple(window), new_bias_shape=tuple(shape)
        )
    return resized if resized.shape == shape else None
