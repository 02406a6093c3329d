"""Declare the options of the losses."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from reidray.config.sections.limits import MAX_WEIGHT, limited
from reidray.config.sections.loss_options import (
    LossOptions,
    TrainingKind,
    loss_weight,
    register_loss_options,
    smoothing_share,
)

MAX_SCALE = 10_000
"""The largest factor of the cosines of a loss; much smaller ones make the softmax a maximum."""


@register_loss_options("identity")
@dataclass(frozen=True, kw_only=True)
class IdentityLossOptions(LossOptions):
    """Hold the options of the cross-entropy over people.

    Attributes:
        weight: weight of the cross-entropy over people.
        smoothing: label smoothing of the cross-entropies over people and over attributes.
    """

    flat: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    trains_head: ClassVar[bool] = True

    weight: float = loss_weight(1.0)
    smoothing: float = smoothing_share(0.1)


@register_loss_options("triplet")
@dataclass(frozen=True, kw_only=True)
class TripletLossOptions(LossOptions):
    """Hold the options of the triplet loss.

    Attributes:
        weight: weight of the triplet loss.
        margin: margin of the triplet loss; 0 takes the soft margin.
        mining: hard takes the farthest positive and the nearest negative of each anchor, semihard
            for each positive the nearest negative that is farther than it.
    """

    flat: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    compares_images: ClassVar[bool] = True

    weight: float = loss_weight(1.0)
    margin: float = limited(0.3, 0, MAX_WEIGHT)
    mining: Literal["hard", "semihard"] = "hard"


@register_loss_options("attributes")
@dataclass(frozen=True, kw_only=True)
class AttributeLossOptions(LossOptions):
    """Hold the options of the cross-entropy over attributes.

    Attributes:
        weight: weight of the cross-entropy over attributes.
        smoothing: label smoothing of the cross-entropies over people and over attributes.
    """

    flat: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    trains_head: ClassVar[bool] = True

    weight: float = loss_weight(1.0)
    smoothing: float = smoothing_share(0.1)


@dataclass(frozen=True, kw_only=True)
class MarginSoftmaxLossOptions(LossOptions):
    """Hold the options of a cross-entropy over people with a margin.

    Attributes:
        weight: weight of the cross-entropy.
        margin: margin of the right person.
        scale: factor of the cosines before the softmax.
        smoothing: label smoothing.
    """

    margin: float = limited(0.0, 0, 1)
    scale: float = limited(64.0, 1, MAX_SCALE)
    smoothing: float = smoothing_share(0.0)


@register_loss_options("arcface")
@dataclass(frozen=True, kw_only=True)
class ArcFaceLossOptions(MarginSoftmaxLossOptions):
    """Hold the options of ArcFace, with the defaults of Deng et al. 2019.

    Attributes:
        weight: weight of ArcFace, a cross-entropy over people with a margin of the angle; its
            classifier replaces the network's where `loss.identity` is 0.
        margin: radians added to the angle to the right person.
    """

    margin: float = limited(0.5, 0, 1.5)


@register_loss_options("cosface")
@dataclass(frozen=True, kw_only=True)
class CosFaceLossOptions(MarginSoftmaxLossOptions):
    """Hold the options of CosFace, with the defaults of Wang et al. 2018.

    Attributes:
        weight: weight of CosFace, a cross-entropy over people with a margin of the cosine; its
            classifier replaces the network's where `loss.identity` is 0.
        margin: difference by which the cosine of the right person is lowered.
    """

    margin: float = limited(0.35, 0, 1)


@register_loss_options("circle_softmax")
@dataclass(frozen=True, kw_only=True)
class CircleSoftmaxLossOptions(MarginSoftmaxLossOptions):
    """Hold the options of the circle loss over a classifier of people (Sun et al. 2020).

    Attributes:
        weight: weight of the circle loss over a classifier of people.
        margin: margin of the cosines.
        scale: factor of the weighted cosines before the softmax.
    """

    margin: float = limited(0.25, 0, 1)
    scale: float = limited(128.0, 1, MAX_SCALE)


@register_loss_options("circle")
@dataclass(frozen=True, kw_only=True)
class CircleLossOptions(LossOptions):
    """Hold the options of the circle loss over pairs of images (Sun et al. 2020).

    Attributes:
        weight: weight of the circle loss over pairs of images.
        margin: margin of the cosines.
        scale: factor of the weighted cosines.
    """

    compares_images: ClassVar[bool] = True

    margin: float = limited(0.25, 0, 1)
    scale: float = limited(128.0, 1, MAX_SCALE)


@register_loss_options("supervised_contrastive")
@dataclass(frozen=True, kw_only=True)
class SupervisedContrastiveLossOptions(LossOptions):
    """Hold the options of the supervised contrastive loss (Khosla et al. 2020).

    Attributes:
        weight: weight of the supervised contrastive loss.
        temperature: divisor of the cosines before the softmax over the images of a batch.
    """

    compares_images: ClassVar[bool] = True

    temperature: float = limited(0.1, 0.01, 100)


@register_loss_options("center")
@dataclass(frozen=True, kw_only=True)
class CenterLossOptions(LossOptions):
    """Hold the options of the centre loss (Wen et al. 2016).

    Attributes:
        weight: weight of the centre loss; Luo et al. 2019 use 0.0005 beside other losses.
        rate: learning rate of the centres, whatever the weight and the optimiser's rate.
    """

    needs_whole_batch: ClassVar[bool] = True

    rate: float = limited(0.5, 0, 1)


@register_loss_options("labels")
@dataclass(frozen=True, kw_only=True)
class LabelLossOptions(LossOptions):
    """Hold the options of the cross-entropy over the classes, or over the attributes.

    Attributes:
        weight: weight of the cross-entropy over the classes, or over the attributes.
        smoothing: label smoothing of this cross-entropy.
    """

    training: ClassVar[TrainingKind] = "multitask"
    flat: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    trains_head: ClassVar[bool] = True

    weight: float = loss_weight(1.0)
    smoothing: float = smoothing_share(0.0)


@register_loss_options("masks")
@dataclass(frozen=True, kw_only=True)
class MaskLossOptions(LossOptions):
    """Hold the options of the binary cross-entropy over the pixels of the masks.

    Attributes:
        weight: weight of the binary cross-entropy over the pixels of the masks.
    """

    training: ClassVar[TrainingKind] = "multitask"
    flat: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    trains_head: ClassVar[bool] = True

    weight: float = loss_weight(1.0)
