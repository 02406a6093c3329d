"""The pixels that a GPU gathers and masks are those that a CPU copies by slices, bit for bit."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from reidray.data.augmentations.pixel_copies import (
    copy_slices,
    fill_masked,
    fill_slices,
    gather_pixels,
)

sizes = st.tuples(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**32)
levels = st.floats(0, 255, width=32)


def draw_images(size, random):
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=random)


@given(sizes, seeds, levels, st.sampled_from([0.05, 0.5, 1.3]), st.booleans(), st.booleans())
def test_gathered_pixels_are_those_of_slices(size, seed, fill, limit, flips, shifts):
    random = torch.Generator().manual_seed(seed)
    images = draw_images(size, random)
    flip = torch.rand(size[0], generator=random) < 0.5 if flips else None
    shift = (torch.rand(size[0], 2, generator=random) * 2 - 1) * limit if shifts else None
    gathered = gather_pixels(images, flip, shift, fill)
    assert gathered.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(gathered, copy_slices(images, flip, shift, fill))


@given(sizes, seeds, levels, st.booleans())
def test_masked_rectangles_are_those_of_slices(size, seed, fill, on_edges):
    random = torch.Generator().manual_seed(seed)
    images = draw_images(size, random).float()
    top, left, height, width = torch.rand(4, size[0], generator=random)
    height *= torch.rand(size[0], generator=random) < 0.7
    if on_edges:  # between the centres of two pixels, and on a centre
        top, height = (top * 2 * size[2]).round() / (2 * size[2]), torch.ones_like(height)
    rectangles = torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)
    masked, sliced = images.clone(), images.clone()
    fill_masked(masked, rectangles, fill)
    fill_slices(sliced, rectangles, fill)
    assert torch.equal(masked, sliced)
