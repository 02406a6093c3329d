"""Apply operations that change values of pixels, each to the crops that drew it.

The crops of an operation are known on the CPU, so that nothing waits for a GPU, and each operation
takes a few kernels for all its crops.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidray.data.augmentations.colour_changes import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
)
from reidray.data.augmentations.operations import Operation, operation_array
from reidray.data.device_copies import to_device_together


def apply_pixel_operations(images: Tensor, operations: Tensor) -> None:
    """Apply the operations that change values of pixels, in place.

    Args:
        images: (B, 3, H, W) float32 in 0..255.
        operations: (B, N, 2) float32 numbers and values of the operations of each crop, on the CPU,
            in the order in which they apply; those that move pixels change nothing.
    """
    numbers, values = operation_array(operations).transpose(2, 1, 0)
    crops = np.argsort(numbers, axis=1, kind="stable")
    values = np.take_along_axis(values, crops, axis=1)
    sources = {"crops": torch.from_numpy(crops), "values": torch.from_numpy(values)}
    on_device = to_device_together(sources, images.device)
    for row, its_numbers in enumerate(numbers.astype(np.int64)):
        counts = np.bincount(its_numbers, minlength=len(Operation)).tolist()
        chosen = on_device["crops"][row].split_with_sizes(counts)
        chosen_values = on_device["values"][row].split_with_sizes(counts)
        for operation, count in zip(Operation, counts, strict=True):
            change = PIXEL_OPERATIONS.get(operation)
            if change is not None and count:
                selected = images.index_select(0, chosen[operation])
                changed = change(selected, chosen_values[operation])
                images.index_copy_(0, chosen[operation], changed)


def adjust_sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Return images that are sharper by (B,) factors; 0 blurs, and the outermost pixels stay."""
    if min(images.shape[2:]) < 3:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    # The centre counts 5 and each of its eight neighbours 1: nine times their mean and 4.
    blurred = torch.lerp(functional.avg_pool2d(images, 3, stride=1), inner, 4 / 13)
    images[:, :, 1:-1, 1:-1] = torch.lerp(blurred, inner, factors.view(-1, 1, 1, 1)).clamp_(0, 255)
    return images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Return images that keep the highest of the 8 bits of their values, (B,) of them."""
    steps = torch.exp2(8 - bits).view(-1, 1, 1, 1)
    return torch.div(images.round_(), steps, rounding_mode="floor").mul_(steps)


def solarize(images: Tensor, levels: Tensor) -> Tensor:
    """Return images whose values are inverted from (B,) levels in 0..255 upwards."""
    return torch.where(images >= levels.view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: Tensor, _values: Tensor) -> Tensor:
    """Return images each channel of which extends from 0 to 255; a plain channel stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    extent = high - low
    scale = torch.where(extent > 0, 255 / extent, 1)
    return (images - torch.where(extent > 0, low, 0)).mul_(scale)


def equalize(images: Tensor, _values: Tensor) -> Tensor:
    """Return images whose channels have all levels about equally often, as Pillow computes it.

    With c(v) pixels of a channel below v, and s a 255th of those below its highest level, the level
    v becomes (c(v) + s // 2) // s; a channel stays where s is 0.
    """
    levels = images.round_().flatten(2).long()
    ones = torch.ones_like(levels, dtype=torch.int32)
    histogram = ones.new_zeros((*levels.shape[:2], 256)).scatter_add_(2, levels, ones)
    below = histogram.cumsum(dim=2, dtype=torch.int32) - histogram
    step = below.gather(2, levels.amax(dim=2, keepdim=True)) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device, dtype=torch.int32))
    return table.gather(2, levels).view(images.shape).float()


PIXEL_OPERATIONS: Mapping[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    Operation.BRIGHTNESS: adjust_brightness,
    Operation.COLOR: adjust_saturation,
    Operation.CONTRAST: adjust_contrast,
    Operation.SHARPNESS: adjust_sharpness,
    Operation.POSTERIZE: posterize,
    Operation.SOLARIZE: solarize,
    Operation.AUTO_CONTRAST: autocontrast,
    Operation.EQUALIZE: equalize,
    Operation.INVERT: solarize,
}
"""Functions of crops, (B, 3, H, W) float32 in 0..255, which they may change, and (B,) values."""
