"""Define the operations that RandAugment and AutoAugment choose from, and where some move pixels.

Their values are those of torchvision. A shear turns about the centre of a crop, not about its upper
left corner: a crop is twice as high as wide, and its person would leave it.
"""

import math
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Operation(IntEnum):
    """Number the operations."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTO_CONTRAST = 12
    EQUALIZE = 13
    INVERT = 14


MOVES = (
    Operation.SHEAR_X,
    Operation.SHEAR_Y,
    Operation.TRANSLATE_X,
    Operation.TRANSLATE_Y,
    Operation.ROTATE,
)
"""Operations that move pixels. Masks follow them."""

LARGEST = {
    Operation.SHEAR_X: 0.3,
    Operation.SHEAR_Y: 0.3,
    Operation.TRANSLATE_X: 150 / 331,
    Operation.TRANSLATE_Y: 150 / 331,
    Operation.ROTATE: math.radians(30),
    Operation.BRIGHTNESS: 0.9,
    Operation.COLOR: 0.9,
    Operation.CONTRAST: 0.9,
    Operation.SHARPNESS: 0.9,
}
"""Changes of the operations that go either way: tangents, shares of a side, radians, factors."""


def operation_values(operation: Operation, level: float) -> tuple[float, float]:
    """Return the value of an operation at a level, either way.

    >>> operation_values(Operation.BRIGHTNESS, 1.0)
    (1.9, 0.09999999999999998)
    >>> operation_values(Operation.POSTERIZE, 0.5)
    (6.0, 6.0)

    Args:
        operation: the operation.
        level: strength, from 0 to 1.

    Returns:
        Tangents of a shear, shares of a side, radians clockwise, factors, the bits that posterising
        leaves, or the level in 0..255 from which solarising inverts; 0 without a value.
    """
    change = level * LARGEST.get(operation, 0.0)
    if operation in MOVES:
        return change, -change
    if operation in LARGEST:
        return 1 + change, 1 - change
    value = 0.0
    if operation == Operation.POSTERIZE:
        value = float(round(8 - 4 * level))
    elif operation == Operation.SOLARIZE:
        value = 255 * (1 - level)
    return value, value


def moves_pixels(operations: Tensor) -> NDArray[np.bool_]:
    """Return for each crop, (B,), whether any of its operations, (B, N, 2), moves pixels."""
    return np.asarray(np.isin(operation_array(operations)[..., 0], MOVES).any(axis=1))


def operation_array(operations: Tensor) -> NDArray[np.float32]:
    """Return operations, (B, N, 2) on the CPU, as an array, to decide by them on the host."""
    # A list is read without an operator, which a mode of PyTorch for other devices would replace.
    return np.array(operations.tolist(), dtype=np.float32).reshape(operations.shape)


def operation_maps(operations: Tensor, aspect: float) -> Tensor:
    """Return the affine maps, (B, 2, 3) float32, from crops after N operations to crops before.

    Coordinates run from -1 to 1 along both sides.

    Args:
        operations: (B, N, 2) numbers and values of the operations, in the order in which they
            apply; those that move no pixels change nothing.
        aspect: height of a crop divided by its width.
    """
    maps = torch.eye(2, 3).expand(len(operations), -1, -1)
    for numbers, values in operations.permute(1, 2, 0):
        shear_x, shear_y, shift_x, shift_y, turn = (
            torch.where(numbers == each, values, 0) for each in MOVES
        )
        across = (torch.sin(turn) + shear_x) * aspect
        down = (shear_y - torch.sin(turn)) / aspect
        row_x = torch.stack([torch.cos(turn), across, -2 * shift_x], dim=1)
        row_y = torch.stack([down, torch.cos(turn), -2 * shift_y], dim=1)
        maps = chain_maps(maps, torch.stack([row_x, row_y], dim=1))
    return maps


def chain_maps(first: Tensor, second: Tensor) -> Tensor:
    """Return the affine maps, (B, 2, 3), that apply those of `second` and then those of `first`."""
    linear = first[:, :, :2]
    return torch.cat(
        [linear @ second[:, :, :2], linear @ second[:, :, 2:] + first[:, :, 2:]], dim=2
    )
