"""Define the interface of an augmentation, and register augmentations by name."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from reidray.config.sections.augmentation_options import AUGMENTATION_OPTIONS
from reidray.registry import Registry


class Augmentation(ABC):
    """Draw the parameters of an augmentation for a batch, and apply it.

    Attributes:
        order: place among the augmentations that are applied: colours have 10 to 40, erasing 90.
        shares_draws: whether the parameters come from the random numbers that the built-in
            augmentations share, also where it is off. Others draw their own, and only where on.
    """

    order: ClassVar[int] = 50
    shares_draws: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def draw(options: Any, count: int, random: torch.Generator) -> Tensor:
        """Return the parameters of `count` crops, (count, ...).

        Args:
            options: the options of the augmentation.
            count: crops of a global batch.
            random: generator of random numbers on the CPU.
        """

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the augmented images.

        Args:
            images: (B, 3, H, W) float32 in 0..255, the channels last in memory.
            parameters: (B, ...) as `draw` returned them, on the CPU.
            fill: value in 0..255 of pixels that come from outside the crop.
        """
        return images


AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation", "reidray.data.augmentations", options=AUGMENTATION_OPTIONS
)
"""The class of each augmentation by the augmentation's name."""

register_augmentation = AUGMENTATIONS.register
"""Register a subclass of `Augmentation` under a name.

`register_augmentation_options` registers its options under the same name.
"""


class AugmentPlan(dict[str, Tensor]):
    """Hold the parameters of each augmentation for B crops by the augmentation's name."""

    def take(self, positions: Tensor) -> "AugmentPlan":
        """Return the plan of some of the crops."""
        return AugmentPlan({name: values[positions] for name, values in self.items()})

    def to(self, device: torch.device) -> "AugmentPlan":
        """Return the plan on a device."""
        return AugmentPlan({name: values.to(device) for name, values in self.items()})


def uniform(limit: float, count: int, random: torch.Generator, *shape: int) -> Tensor:
    """Draw (count, *shape) float32 numbers between `-limit` and `limit`."""
    return (torch.rand(count, *shape, generator=random) * 2 - 1) * limit
