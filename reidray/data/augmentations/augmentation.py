"""Define the interface of an augmentation, and register augmentations by name."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from reidray.config.sections.augmentation_options import AUGMENTATION_OPTIONS
from reidray.data.device_copies import to_device_together
from reidray.registry import Registry


class Augmentation(ABC):
    """Draw the parameters of an augmentation for a batch, and apply it.

    Attributes:
        order: place among the augmentations that are applied: colours have 10 to 40, erasing 90.
        shared_draws: random numbers of a crop that the parameters take from those that the built-in
            augmentations share, also where it is off. Others draw their own, and only where on.
        parameters_on_device: whether `apply` receives the parameters on the device of the images,
            as a GPU needs them; by default it receives them on the CPU.
        neutral: value of the parameters that changes no image; None where there is none.
    """

    order: ClassVar[int] = 50
    shared_draws: ClassVar[int] = 0
    parameters_on_device: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    @staticmethod
    @abstractmethod
    def draw(options: Any, count: int, random: torch.Generator) -> Tensor:
        """Return the parameters of `count` crops, (count, ...).

        Args:
            options: the options of the augmentation.
            count: crops of a global batch.
            random: generator of random numbers on the CPU.
        """

    @classmethod
    def is_active(cls, parameters: Tensor) -> bool:
        """Return whether some parameters, (B, ...) on the CPU, change any image.

        Where they do not, `apply` is not called.
        """
        return cls.neutral is None or bool((parameters != cls.neutral).any())

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the augmented images.

        Args:
            images: (B, 3, H, W) float32 in 0..255, the channels last in memory.
            parameters: (B, ...) as `draw` returned them; on the CPU, or on the device of the images
                with `parameters_on_device`.
            fill: value in 0..255 of pixels that come from outside the crop.
        """
        return images


class PastingAugmentation(Augmentation):
    """Paste parts of other training crops into crops.

    The crops that give them are the donors. They are the same for all batches of an epoch and for
    each of several workers, which would otherwise have only the crops of their own share.
    """

    @staticmethod
    @abstractmethod
    def paste(images: Tensor, parameters: Tensor, donors: Tensor) -> Tensor:
        """Return the images with parts of donors; it is called in place of `apply`.

        Args:
            images: (B, 3, H, W) float32 in 0..255, the channels last in memory.
            parameters: (B, ...) as `draw` returned them, on the CPU.
            donors: (D, 3, H, W) uint8 crops, not augmented.
        """


AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation", "reidray.data.augmentations", options=AUGMENTATION_OPTIONS
)
"""The class of each augmentation by the augmentation's name."""

register_augmentation = AUGMENTATIONS.register
"""Register a subclass of `Augmentation` under a name.

`register_augmentation_options` registers its options under the same name.
"""


class AugmentPlan(dict[str, Tensor]):
    """Hold the parameters of each augmentation for B crops by its name, on the CPU.

    What to compute is decided there, so that the host never waits for a GPU.
    """

    def take(self, positions: Tensor) -> "AugmentPlan":
        """Return the plan of some of the crops."""
        return AugmentPlan({name: values[positions] for name, values in self.items()})

    def on_device(self, device: torch.device) -> dict[str, Tensor]:
        """Return what augmentations ask for with `parameters_on_device`, in one copy for all."""
        if device.type == "cpu":
            return self
        asked = {
            name: values
            for name, values in self.items()
            if AUGMENTATIONS.get(name).parameters_on_device
        }
        return to_device_together(asked, device)

    @cached_property
    def active(self) -> tuple[str, ...]:
        """Return the augmentations that change any image, in the order in which they apply."""
        classes = {name: AUGMENTATIONS.get(name) for name in self}
        active = [name for name in self if classes[name].is_active(self[name])]
        return tuple(sorted(active, key=lambda name: classes[name].order))


def uniform(limit: float, count: int, random: torch.Generator, *shape: int) -> Tensor:
    """Draw (count, *shape) float32 numbers between `-limit` and `limit`."""
    return (torch.rand(count, *shape, generator=random) * 2 - 1) * limit
