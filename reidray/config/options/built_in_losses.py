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
