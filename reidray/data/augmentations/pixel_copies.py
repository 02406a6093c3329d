"""Mirror and shift images by whole pixels, and erase rectangles.

Both ways of each give the same bits. Slices are copied image by image, which is fastest on a CPU.
For a GPU the CPU computes the source of each row and column, and a few kernels gather all pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from reidray.data.device_copies import to_device_together


def copy_pixels(images: Tensor, flip: Tensor | None, shift: Tensor | None, fill: float) -> Tensor:
    """Mirror images left and right, then shift them by whole pixels.

    Args:
        images: (B, C, H, W) uint8.
        flip: (B,) bool on the CPU; None mirrors no image.
        shift: (B, 2) on the CPU, along x and y, as shares of the width and the height; None shifts
            no image.
        fill: value of pixels that come from outside an image.

    Returns:
        (B, C, H, W) float32, the channels last in memory.
    """
    if flip is None and shift is None:
        return images.float()
    if images.device.type == "cpu":
        return copy_slices(images, flip, shift, fill)
    return gather_pixels(images, flip, shift, fill)


def fill_rectangles(images: Tensor, rectangles: Tensor, fill: float) -> None:
    """Fill a rectangle of each image, in place: the pixels whose centres lie in it.

    Args:
        images: (B, C, H, W) float32.
        rectangles: (B, 4) top, left, height and width as shares of the image, on the CPU.
        fill: value of the filled pixels.
    """
    if images.device.type == "cpu":
        fill_slices(images, rectangles, fill)
    else:
        fill_masked(images, rectangles, fill)


def copy_slices(images: Tensor, flip: Tensor | None, shift: Tensor | None, fill: float) -> Tensor:
    """Mirror and shift images one by one, as `copy_pixels` does."""
    if flip is not None:
        sides = zip(flip.tolist(), images, images.flip(3), strict=True)
        images = _stacked([mirrored if flips else image for flips, image, mirrored in sides])
    return images.float() if shift is None else _shift_slices(images, shift, fill)


def gather_pixels(images: Tensor, flip: Tensor | None, shift: Tensor | None, fill: float) -> Tensor:
    """Mirror and shift all images in one gather, as `copy_pixels` does."""
    count, _, height, width = images.shape
    rows, columns = torch.arange(height)[None], torch.arange(width)[None]
    outside = {}
    if shift is not None:
        moved_columns = columns - (shift[:, :1] * width).round().long()
        moved_rows = rows - (shift[:, 1:] * height).round().long()
        columns, rows = moved_columns.clamp(0, width - 1), moved_rows.clamp(0, height - 1)
        outside = {"outside_rows": rows != moved_rows, "outside_columns": columns != moved_columns}
    if flip is not None:
        columns = torch.where(flip[:, None], width - 1 - columns, columns)
    # The number of a pixel in the batch is the sum of what its row and its column add.
    rows = (torch.arange(count)[:, None] * height + rows) * width
    sources = to_device_together({"rows": rows, "columns": columns, **outside}, images.device)
    copied = take_pixels(images, sources["rows"], sources["columns"])
    if shift is None:
        return copied
    is_outside = sources["outside_rows"][:, :, None] | sources["outside_columns"][:, None]
    return copied.masked_fill_(is_outside[:, None], fill)


def take_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take the pixels at some places of images.

    Args:
        images: (N, C, H, W), fastest where the channels come last in memory.
        rows: (B, H) int64 on the device of the images: the number of the first pixel of a row among
            the pixels of all images.
        columns: (B, W) or (1, W) int64 on that device.

    Returns:
        (B, C, H, W) float32, the channels last in memory.
    """
    numbers = rows[:, :, None] + columns[:, None]
    pixels = images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])
    taken = pixels.index_select(0, numbers.flatten())
    return taken.view(*numbers.shape, images.shape[1]).permute(0, 3, 1, 2).float()


def fill_slices(images: Tensor, rectangles: Tensor, fill: float) -> None:
    """Fill the rectangle of one image after the other, as `fill_rectangles` does."""
    for image, (top, left, bottom, right) in zip(
        images, _bounds(rectangles, images).ceil().int().tolist(), strict=True
    ):
        if bottom > top:
            image[:, top:bottom, left:right] = fill


def fill_masked(images: Tensor, rectangles: Tensor, fill: float) -> None:
    """Fill the rectangles of all images at once, as `fill_rectangles` does."""
    images.masked_fill_(inside_rectangles(images, rectangles), fill)


def inside_rectangles(images: Tensor, rectangles: Tensor) -> Tensor:
    """Return which pixels lie in the rectangle of their image, (B, 1, H, W) bool on its device.

    Args:
        images: (B, C, H, W).
        rectangles: (B, 4) top, left, height and width as shares of the image, on the CPU.
    """
    height, width = images.shape[2:]
    rows, columns = torch.arange(height), torch.arange(width)
    top, left, bottom, right = _bounds(rectangles, images)[:, :, None].unbind(dim=1)
    on_host = {
        "rows": (rows >= top) & (rows < bottom),
        "columns": (columns >= left) & (columns < right),
    }
    inside = to_device_together(on_host, images.device)
    return (inside["rows"][:, :, None] & inside["columns"][:, None])[:, None]


def _bounds(rectangles: Tensor, images: Tensor) -> Tensor:
    """Return top, left, bottom and right, (B, 4): a pixel is inside from one to the other."""
    height, width = images.shape[2:]
    top, left = rectangles[:, 0] * height, rectangles[:, 1] * width
    bottom, right = top + rectangles[:, 2] * height, left + rectangles[:, 3] * width
    return torch.stack([top, left, bottom, right], dim=1) - 0.5


def _shift_slices(images: Tensor, shift: Tensor, fill: float) -> Tensor:
    """Shift images one by one."""
    height, width = images.shape[2:]
    moves = (shift * torch.tensor([width, height])).round().long()
    pad_x, pad_y = moves.abs().amax(dim=0).tolist()
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
    moved = _stacked(
        [
            image[:, pad_y - y : pad_y - y + height, pad_x - x : pad_x - x + width]
            for image, (x, y) in zip(padded, moves.tolist(), strict=True)
        ]
    ).float()
    for image, (x, y) in zip(moved, moves.tolist(), strict=True):
        if x:
            image[:, :, _moved_in(x)] = fill
        if y:
            image[:, _moved_in(y)] = fill
    return moved


def _moved_in(move: int) -> slice:
    """Return the slice of the pixels that a move brings in from outside."""
    return slice(0, move) if move > 0 else slice(move, None)


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """Return images (C, H, W) as one batch, the channels last in memory."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
