"""Augment the training crops of a baseline."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from reidray.config import AugmentConfig
from reidray.data.augmentations import (
    AugmentPlan,
    augment,
    image_crops,
    image_tensor,
    plan_augmentation,
)

STRENGTHS = {"flip": 0.5, "rotation": 10, "shift": 0.1, "zoom": 0.1, "brightness": 0.2}
"""Augmentation of the recipe `vgg_triplet_rgb`."""

FILL = 0
"""Value of pixels that come from outside a crop."""


@dataclass(frozen=True)
class AugmentedCopies:
    """Make an augmented copy of each crop of a list.

    Attributes:
        count: Number of crops in the list.
        seed: Seed of the augmentation.
    """

    count: int
    seed: int

    def of(
        self, crops: npt.NDArray[np.uint8], positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint8]:
        """Return the copies (N, H, W, 3) uint8 of some crops of the list.

        The copy of a crop does not depend on the other crops.

        Args:
            crops: (N, H, W, 3) uint8.
            positions: (N,) int64, the places of the crops in the list.
        """
        before = image_tensor(crops, torch.device("cpu"))
        plan = self._plan.take(torch.from_numpy(positions))
        return image_crops(augment(before, plan, fill=FILL))

    @cached_property
    def _plan(self) -> AugmentPlan:
        """Draw the augmentation of all crops of the list."""
        config = AugmentConfig(**STRENGTHS)
        return plan_augmentation(config, self.count, seed=self.seed, epoch=0, step=0)
