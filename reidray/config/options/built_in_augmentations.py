"""Declare the options of the augmentations."""

from dataclasses import dataclass
from typing import ClassVar

from reidray.config.sections.augmentation_options import (
    AugmentationOptions,
    ListedOptions,
    register_augmentation_options,
)
from reidray.config.sections.limits import MAX_PIXELS_A_SIDE, limited


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


@register_augmentation_options("pad_crop")
@dataclass(frozen=True, kw_only=True)
class PadCropOptions(AugmentationOptions):
    """Hold the options of padding a crop and cutting its own size out at random.

    Attributes:
        pixels: pixels by which each side is padded, as papers state them: 10 for 256 x 128.
    """

    pixels: int = limited(0, 0, MAX_PIXELS_A_SIDE)


@register_augmentation_options("elastic")
@dataclass(frozen=True, kw_only=True)
class ElasticOptions(AugmentationOptions):
    """Hold the options of elastic deformation.

    Attributes:
        share: standard deviation of the moves of 3 x 3 points, as a share of the width and the
            height; 0.02 in the paper.
    """

    share: float = limited(0.0, 0, under=1)


@register_augmentation_options("grayscale")
@dataclass(frozen=True, kw_only=True)
class GrayscaleOptions(AugmentationOptions):
    """Hold the options of the loss of all colours.

    Attributes:
        probability: probability that a crop turns grey; 0.05 in the paper.
    """

    probability: float = limited(0.0, 0, 1)


@register_augmentation_options("local_grayscale")
@dataclass(frozen=True, kw_only=True)
class LocalGrayscaleOptions(AugmentationOptions):
    """Hold the options of the loss of colours in a rectangle.

    Attributes:
        probability: probability that a rectangle of a crop turns grey; 0.4 in the paper.
    """

    probability: float = limited(0.0, 0, 1)


@register_augmentation_options("random_patch")
@dataclass(frozen=True, kw_only=True)
class RandomPatchOptions(AugmentationOptions):
    """Hold the options of patches of other crops.

    Attributes:
        probability: probability that a patch of another crop covers a part; 0.5 in the paper.
    """

    probability: float = limited(0.0, 0, 1)


@register_augmentation_options("rand_augment")
@dataclass(frozen=True, kw_only=True)
class RandAugmentOptions(AugmentationOptions):
    """Hold the options of RandAugment.

    Attributes:
        operations: operations that each crop draws; 2 in the paper.
        magnitude: strength of the operations, 0 to 30; 9 in the paper.
    """

    flat: ClassVar[bool] = False

    operations: int = limited(0, 0, 14)
    magnitude: float = limited(9.0, 0, 30)


@register_augmentation_options("auto_augment")
@dataclass(frozen=True, kw_only=True)
class AutoAugmentOptions(AugmentationOptions):
    """Hold the options of AutoAugment.

    Attributes:
        probability: probability that a crop goes through a sub-policy; 0.1 is usual for people.
    """

    probability: float = limited(0.0, 0, 1)
