"""Configure the batches and the optimiser of a training."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from reidray.config.sections.limits import MAX_IMAGES_A_BATCH, MAX_RATE, require
from reidray.config.sections.section import ConfigSection


@dataclass(frozen=True, kw_only=True)
class BatchConfig(ConfigSection):
    """Set the size of a global batch, which all workers share.

    Attributes:
        people: number of people in a batch (P).
        crops: number of crops of each person in a batch (K).
        spread_cameras: draw a person's crops from each of their cameras in proportion.
        dataset_shares: people of a batch that each of several data sets gives: proportional to its
            crops, so that an epoch uses each crop once, or equal, so that small sets repeat.
    """

    people: int = 16
    crops: int = 4
    spread_cameras: bool = False
    dataset_shares: Literal["proportional", "equal"] = "proportional"

    def __post_init__(self) -> None:
        require(self.people >= 2, "`batch.people` must be 2 or more")
        require(self.crops >= 1, "`batch.crops` must be 1 or more")
        require(
            self.people * self.crops <= MAX_IMAGES_A_BATCH,
            f"`batch.people` x `batch.crops` must be {MAX_IMAGES_A_BATCH} images or fewer",
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(ConfigSection):
    """Set the optimiser and its learning rate over time.

    Attributes:
        name: optimiser.
        learning_rate: highest learning rate.
        scale_learning_rate: learning rate for the batch that --batch auto finds: linear multiplies
            it by the ratio of that batch to the one that is given (Goyal et al. 2017), sqrt by its
            square root (Krizhevsky 2014), none keeps it.
        weight_decay: weight decay.
        momentum: momentum of sgd and rmsprop.
        schedule: learning rate over time: cosine falls to 0 at the end, step divides by ten at each
            milestone.
        warmup: share of the training over which the learning rate rises from 0.
        milestones: milestones of step, as shares of the training.
        max_grad_norm: norm to which a longer gradient of all weights is shortened.
    """

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = 1e-3
    scale_learning_rate: Literal["none", "linear", "sqrt"] = "none"
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup: float = 0.05
    milestones: tuple[float, ...] = (0.5, 0.8)
    max_grad_norm: float | None = None

    def __post_init__(self) -> None:
        require(
            0 < self.learning_rate <= MAX_RATE,
            f"`optimizer.learning_rate` must be above 0 and at most {MAX_RATE:g}",
        )
        require(
            0 <= self.weight_decay <= MAX_RATE,
            f"`optimizer.weight_decay` must lie in 0..{MAX_RATE:g}",
        )
        require(0 <= self.momentum < 1, "`optimizer.momentum` must be 0 or more and under 1")
        require(0 <= self.warmup < 1, "`optimizer.warmup` must be 0 or more and under 1")
        require(all(0 < m < 1 for m in self.milestones), "`optimizer.milestones` must lie in 0..1")
        require(
            self.max_grad_norm is None or 0 < self.max_grad_norm < inf,
            "`optimizer.max_grad_norm` must be finite and above 0",
        )
