"""Declare the options of the augmentations."""

from dataclasses import dataclass

from reidray.config.sections.augmentation_options import (
    ListedOptions,
    register_augmentation_options,
)
from reidray.config.sections.limits import limited


@register_augmentation_options("flip")
@dataclass(frozen=True, kw_only=True)
class FlipOptions(ListedOptions):
    """Hold the options of mirroring.

    Attributes:
        probability: probability of a mirror image.
    """

    probability: float = limited(0.5, 0, 1)


@register_augmentation_options("rotation")
@dataclass(frozen=True, kw_only=True)
class RotationOptions(ListedOptions):
    """Hold the options of rotation.

    Attributes:
        degrees: degrees of the largest rotation either way.
    """

    degrees: float = limited(0.0, 0, under=90)


@register_augmentation_options("shear")
@dataclass(frozen=True, kw_only=True)
class ShearOptions(ListedOptions):
    """Hold the options of shearing.

    Attributes:
        degrees: degrees of the largest shear either way.
    """

    degrees: float = limited(0.0, 0, under=90)


@register_augmentation_options("zoom")
@dataclass(frozen=True, kw_only=True)
class ZoomOptions(ListedOptions):
    """Hold the options of zooming.

    Attributes:
        share: largest share by which a crop becomes larger or smaller.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("shift")
@dataclass(frozen=True, kw_only=True)
class ShiftOptions(ListedOptions):
    """Hold the options of shifting.

    Attributes:
        share: largest shift as a share of the width and height.
    """

    share: float = limited(0.05, 0, under=1)


@register_augmentation_options("brightness")
@dataclass(frozen=True, kw_only=True)
class BrightnessOptions(ListedOptions):
    """Hold the options of changes in brightness.

    Attributes:
        share: largest share by which a crop becomes brighter or darker.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("contrast")
@dataclass(frozen=True, kw_only=True)
class ContrastOptions(ListedOptions):
    """Hold the options of changes in contrast.

    Attributes:
        share: largest share by which the contrast grows or falls.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("erasing")
@dataclass(frozen=True, kw_only=True)
class ErasingOptions(ListedOptions):
    """Hold the options of random erasing.

    Attributes:
        probability: probability of an erased rectangle.
    """

    probability: float = limited(0.0, 0, 1)


@register_augmentation_options("crop")
@dataclass(frozen=True, kw_only=True)
class CropOptions(ListedOptions):
    """Hold the options of random cropping.

    Attributes:
        share: largest share of the height and of the width that is cut off; the rest, anywhere in
            the crop, is enlarged to the size of the crop.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("saturation")
@dataclass(frozen=True, kw_only=True)
class SaturationOptions(ListedOptions):
    """Hold the options of changes in saturation.

    Attributes:
        share: largest share by which a crop becomes more or less colourful.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("hue")
@dataclass(frozen=True, kw_only=True)
class HueOptions(ListedOptions):
    """Hold the options of changes in hue.

    Attributes:
        share: largest share of the colour circle that colours turn either way; 0.5 turns them to
            their opposites.
    """

    share: float = limited(0.0, 0, 0.5)
