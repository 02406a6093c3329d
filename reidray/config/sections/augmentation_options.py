"""Configure the augmentations of a training, without importing PyTorch."""

from dataclasses import dataclass
from typing import Any, ClassVar

from reidray.config.sections.limits import check_options_class, limited
from reidray.config.sections.open_section import PartOptions, PartsSection
from reidray.registry import Registry


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions(PartOptions):
    """Hold the options of an augmentation. The first of them is its strength; 0 turns it off."""

    flat: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class _ListedOptions(AugmentationOptions):
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


@register_augmentation_options("flip")
@dataclass(frozen=True, kw_only=True)
class FlipOptions(_ListedOptions):
    """Hold the options of mirroring.

    Attributes:
        probability: probability of a mirror image.
    """

    probability: float = limited(0.5, 0, 1)


@register_augmentation_options("rotation")
@dataclass(frozen=True, kw_only=True)
class RotationOptions(_ListedOptions):
    """Hold the options of rotation.

    Attributes:
        degrees: degrees of the largest rotation either way.
    """

    degrees: float = limited(0.0, 0, under=90)


@register_augmentation_options("shear")
@dataclass(frozen=True, kw_only=True)
class ShearOptions(_ListedOptions):
    """Hold the options of shearing.

    Attributes:
        degrees: degrees of the largest shear either way.
    """

    degrees: float = limited(0.0, 0, under=90)


@register_augmentation_options("zoom")
@dataclass(frozen=True, kw_only=True)
class ZoomOptions(_ListedOptions):
    """Hold the options of zooming.

    Attributes:
        share: largest share by which a crop becomes larger or smaller.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("shift")
@dataclass(frozen=True, kw_only=True)
class ShiftOptions(_ListedOptions):
    """Hold the options of shifting.

    Attributes:
        share: largest shift as a share of the width and height.
    """

    share: float = limited(0.05, 0, under=1)


@register_augmentation_options("brightness")
@dataclass(frozen=True, kw_only=True)
class BrightnessOptions(_ListedOptions):
    """Hold the options of changes in brightness.

    Attributes:
        share: largest share by which a crop becomes brighter or darker.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("contrast")
@dataclass(frozen=True, kw_only=True)
class ContrastOptions(_ListedOptions):
    """Hold the options of changes in contrast.

    Attributes:
        share: largest share by which the contrast grows or falls.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("erasing")
@dataclass(frozen=True, kw_only=True)
class ErasingOptions(_ListedOptions):
    """Hold the options of random erasing.

    Attributes:
        probability: probability of an erased rectangle.
    """

    probability: float = limited(0.0, 0, 1)


@register_augmentation_options("crop")
@dataclass(frozen=True, kw_only=True)
class CropOptions(_ListedOptions):
    """Hold the options of random cropping.

    Attributes:
        share: largest share of the height and of the width that is cut off; the rest, anywhere in
            the crop, is enlarged to the size of the crop.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("saturation")
@dataclass(frozen=True, kw_only=True)
class SaturationOptions(_ListedOptions):
    """Hold the options of changes in saturation.

    Attributes:
        share: largest share by which a crop becomes more or less colourful.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("hue")
@dataclass(frozen=True, kw_only=True)
class HueOptions(_ListedOptions):
    """Hold the options of changes in hue.

    Attributes:
        share: largest share of the colour circle that colours turn either way; 0.5 turns them to
            their opposites.
    """

    share: float = limited(0.0, 0, 0.5)
