"""Configure the losses of a training, without importing PyTorch."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from reidray.config.sections.limits import (
    MAX_WEIGHT,
    check_options_class,
    limited,
    require,
)
from reidray.config.sections.open_section import PartOptions, PartsSection
from reidray.registry import Registry

TrainingKind = Literal["reid", "multitask"]


def loss_weight(default: float) -> float:
    """Return the field of a loss's weight; 0 leaves the loss out."""
    return limited(default, 0, MAX_WEIGHT)  # type: ignore[no-any-return]


def smoothing_share(default: float) -> float:
    """Return the field of a share of label smoothing."""
    return limited(default, 0, under=1)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class LossOptions(PartOptions):
    """Hold the weight that every loss has. A loss adds its own options in a subclass.

    Class attributes describe the loss:

    Attributes:
        training: the kind of training that the loss belongs to.
        compares_images: whether the loss compares images of a person with each other, so that a
            batch needs several of each person.
        needs_whole_batch: whether the loss gets the features of all workers in any case, because it
            keeps a state that follows them.
        trains_head: whether a head of the network learns from this loss, so that it is computed at
            weight 0 too.
        weight: weight of the loss; 0 leaves it out.
    """

    training: ClassVar[TrainingKind] = "reid"
    compares_images: ClassVar[bool] = False
    needs_whole_batch: ClassVar[bool] = False
    trains_head: ClassVar[bool] = False

    weight: float = loss_weight(0.0)


LOSS_OPTIONS: Registry[type[LossOptions]] = Registry(
    "loss", "reidray.losses", check=check_options_class
)
"""Hold the options of each loss by the loss's name."""

register_loss_options = LOSS_OPTIONS.register
"""Register a subclass of `LossOptions` under the name of its loss."""


class LossConfig(PartsSection):
    """Set the losses of a re-ID training, their weights and options; weight 0 leaves a loss out."""

    SECTION: ClassVar[str] = "loss"
    REGISTRY: ClassVar[Registry[Any]] = LOSS_OPTIONS
    TRAINING: ClassVar[TrainingKind] = "reid"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        weights = [options.weight for options in self.parts.values()]
        require(sum(weights) > 0, "every loss has weight 0")

    @classmethod
    def part_classes(cls) -> dict[str, type[PartOptions]]:
        """Return the options of each loss of this kind of training by the loss's name."""
        losses = LOSS_OPTIONS.registered
        return {name: each for name, each in losses.items() if each.training == cls.TRAINING}

    @property
    def used(self) -> dict[str, Any]:
        """Return the options of the losses whose weight is above 0, by name."""
        return {name: options for name, options in self.parts.items() if options.weight > 0}


class MultitaskLossConfig(LossConfig):
    """Set the losses of a multi-task training, their weights and options."""

    TRAINING: ClassVar[TrainingKind] = "multitask"
