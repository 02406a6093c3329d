"""Configure the augmentations of a training, without importing PyTorch."""

from dataclasses import dataclass
from typing import Any, ClassVar

from reidray.config.sections.limits import check_options_class
from reidray.config.sections.open_section import PartOptions, PartsSection
from reidray.registry import Registry


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions(PartOptions):
    """Hold the options of an augmentation. The first of them is its strength; 0 turns it off."""

    flat: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ListedOptions(AugmentationOptions):
    """Hold the options of an augmentation that a saved configuration always holds."""

    listed: ClassVar[bool] = True


AUGMENTATION_OPTIONS: Registry[type[AugmentationOptions]] = Registry(
    "augmentation", "reidray.data.augmentations", check=check_options_class
)
"""Hold the options of each augmentation by the augmentation's name."""

register_augmentation_options = AUGMENTATION_OPTIONS.register
"""Register a subclass of `AugmentationOptions` under the name of its augmentation."""


class AugmentConfig(PartsSection):
    """Set the strengths of the augmentations of a training. Each crop draws its own parameters.

    At 0 everywhere, pixels stay as they are.
    """

    SECTION: ClassVar[str] = "augment"
    REGISTRY: ClassVar[Registry[Any]] = AUGMENTATION_OPTIONS
