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
            milestone, one_cycle rises from 1/25 over 30 % of the training and falls to almost 0,
            while the momentum or the first beta falls from 0.95 to 0.85 and rises again (Smith and
            Topin 2018).
        warmup: share of the training over which the learning rate rises from 0, except that of
            one_cycle.
        milestones: milestones of step, as shares of the training.
        max_grad_norm: norm to which a longer gradient of all weights is shortened.
        head_rate_factor: factor of the learning rate of all weights outside the backbone.
        layer_decay: factor by which the learning rate falls from one layer to the layer before it,
            from the head to the first layer of the backbone (Bao et al. 2022); 1 is the same rate
            for all layers.
        freeze_backbone: share of the training, from its start, in which the backbone and its batch
            statistics stay as they are; vectors of cameras and the exponent of gem train.
        ema_decay: decay of the moving average of the weights, which is validated and saved in place
            of the weights, such as 0.999; after n steps it is (1 + n) / (10 + n) at most.
    """

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = 1e-3
    scale_learning_rate: Literal["none", "linear", "sqrt"] = "none"
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Literal["cosine", "step", "one_cycle", "constant"] = "cosine"
    warmup: float = 0.05
    milestones: tuple[float, ...] = (0.5, 0.8)
    max_grad_norm: float | None = None
    head_rate_factor: float = 1.0
    layer_decay: float = 1.0
    freeze_backbone: float = 0.0
    ema_decay: float | None = None

    @property
    def needs_backbone(self) -> bool:
        """Return whether a setting is for networks with a backbone alone."""
        return self.freeze_backbone > 0 or self.layer_decay < 1 or self.head_rate_factor != 1

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
        require(
            0 < self.head_rate_factor <= MAX_RATE,
            f"`optimizer.head_rate_factor` must be above 0 and at most {MAX_RATE:g}",
        )
        require(0 < self.layer_decay <= 1, "`optimizer.layer_decay` must be above 0 and at most 1")
        require(
            0 <= self.freeze_backbone < 1,
            "`optimizer.freeze_backbone` must be 0 or more and under 1",
        )
        require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            "`optimizer.ema_decay` must be above 0 and under 1",
        )
