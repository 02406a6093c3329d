"""Random patches (Zhou et al. 2019): parts of other crops cover a part of a crop.

As in Torchreid, a patch comes from anywhere in its crop, lands anywhere, and may be mirrored. It is
not turned, which would leave black corners.
"""

from typing import ClassVar

import torch
from torch import Tensor

from reidray.config.options.built_in_augmentations import RandomPatchOptions
from reidray.data.augmentations.augmentation import PastingAugmentation, register_augmentation
from reidray.data.augmentations.erasing import draw_rectangles
from reidray.data.augmentations.pixel_copies import inside_rectangles, take_pixels
from reidray.data.device_copies import to_device_together


@register_augmentation("random_patch")
class RandomPatch(PastingAugmentation):
    """Cover rectangles with patches of donors: (B, 8) float32 for each crop.

    Top, left, height and width of the rectangle as shares, where height 0 covers nothing; the donor
    as a share of their number; top and left of the patch in the donor; 1 if the patch is mirrored.
    """

    order: ClassVar[int] = 80

    @staticmethod
    def draw(options: RandomPatchOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw rectangles of 1 to 50 % of the area, as the paper does, and their patches."""
        rectangles = draw_rectangles(options.probability, 0.01, 0.5, count, random)
        donor, top, left, mirrored = torch.rand(4, count, generator=random)
        height, width = rectangles[:, 2:].unbind(dim=1)
        patch = [donor, top * (1 - height), left * (1 - width), (mirrored < 0.5).float()]
        return torch.cat([rectangles, torch.stack(patch, dim=1)], dim=1)

    @classmethod
    def is_active(cls, parameters: Tensor) -> bool:
        """Return whether any rectangle has a height."""
        return bool((parameters[:, 2] > 0).any())

    @staticmethod
    def paste(images: Tensor, parameters: Tensor, donors: Tensor) -> Tensor:
        """Return the images with patches in the pixels whose centres lie in a rectangle."""
        sources = to_device_together(_sources(parameters, donors), images.device)
        patches = take_pixels(donors, sources["rows"], sources["columns"])
        return torch.where(inside_rectangles(images, parameters[:, :4]), patches, images)


def _sources(parameters: Tensor, donors: Tensor) -> dict[str, Tensor]:
    """Return the rows, (B, H), and the columns, (B, W), of donors that `take_pixels` takes.

    Those beyond a rectangle have no meaning, but lie in the donor.
    """
    count, _, height, width = donors.shape
    top, left, _, wide, donor, patch_top, patch_left, mirrored = parameters[:, :, None].unbind(1)
    rows, columns = torch.arange(height), torch.arange(width)
    rows = rows + ((patch_top - top) * height).round().long()
    columns = torch.where(
        mirrored.bool(),
        ((patch_left + left + wide) * width).round().long() - 1 - columns,
        ((patch_left - left) * width).round().long() + columns,
    )
    chosen = (donor * count).long().clamp(max=count - 1)
    return {
        "rows": (chosen * height + rows.clamp(0, height - 1)) * width,
        "columns": columns.clamp(0, width - 1),
    }
