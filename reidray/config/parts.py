"""The parts of a training's configuration, each checked on its own."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

from reidray.config.sections.section import ConfigSection

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy, PyTorch and scikit-learn all accept."""

MAX_PIXELS_A_SIDE = 4096
MAX_PIXELS = 1024 * 1024
"""The most pixels of an image that a network takes; a batch of them is 800 MB."""

MAX_BASELINE_PIXELS = 8192
"""The most pixels P of a baseline: its products are P x P float64, 537 MB."""

MAX_FEATURES = 65_536
MAX_IMAGES_A_BATCH = 65_536
MAX_WEIGHT = 1e6
"""The largest weight of a loss: float32 still holds the sum."""

MAX_RATE = 100.0
"""The largest learning rate and weight decay: with more, the weights overflow in a few steps."""


def require(condition: bool, message: str) -> None:
    """Refuse a configuration.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(message)


def require_seed(value: int, name: str) -> None:
    """Refuse a seed that a random generator refuses.

    Raises:
        ValueError: it is negative or too large.
    """
    require(0 <= value <= MAX_SEED, f"{name} must lie in 0..{MAX_SEED}")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ConfigSection):
    """The network. What is not said is as in the network's paper or report.

    Attributes:
        name: one of the networks that the task can train; the README has their table.
        backbone: of apr and baseline; resnet_tiny, the default, resnet_small or any timm model.
        weights: where a backbone starts: none, imagenet or a .safetensors file.
        feature_size: width of the dense layer of apr.
        embedding_size: length of the embedding of the triplet networks.
        dropout: share dropped in training, of that layer's outputs or else of the channels.
        height: rows of an image.
        width: columns of an image.
    """

    name: str | None = None
    backbone: str | None = None
    weights: str = "none"
    feature_size: int | None = None
    embedding_size: int | None = None
    dropout: float | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        for name in ("feature_size", "embedding_size"):
            value = getattr(self, name)
            require(
                value is None or 0 < value <= MAX_FEATURES,
                f"network.{name} must lie in 1..{MAX_FEATURES}",
            )
        for name in ("height", "width"):
            value = getattr(self, name)
            require(
                value is None or 16 <= value <= MAX_PIXELS_A_SIDE,
                f"network.{name} must lie in 16..{MAX_PIXELS_A_SIDE}",
            )
        require(
            (self.height or 1) * (self.width or 1) <= MAX_PIXELS,
            f"network.height x network.width must be {MAX_PIXELS:,} pixels or fewer",
        )
        require(
            self.dropout is None or 0 <= self.dropout < 1,
            "network.dropout must be 0 or more and under 1",
        )


@dataclass(frozen=True, kw_only=True)
class BatchConfig(ConfigSection):
    """A global batch, shared by all workers.

    Attributes:
        people: people in a batch (P).
        crops: crops of each person (K).
        spread_cameras: whether a person's crops are dealt out so that each of their cameras comes
            into every batch in proportion.
    """

    people: int = 16
    crops: int = 4
    spread_cameras: bool = False

    def __post_init__(self) -> None:
        require(self.people >= 2, "batch.people must be 2 or more")
        require(self.crops >= 1, "batch.crops must be 1 or more")
        require(
            self.people * self.crops <= MAX_IMAGES_A_BATCH,
            f"batch.people x batch.crops must be {MAX_IMAGES_A_BATCH} images or fewer",
        )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(ConfigSection):
    """Augmentation; each crop draws its own parameters, and 0 everywhere leaves pixels as they are.

    Attributes:
        flip: probability of a mirror image.
        rotation: to how many degrees either way.
        shear: to how many degrees either way.
        zoom: to what share larger or smaller.
        shift: to what share of the width and height.
        brightness: to what share brighter or darker.
        contrast: to what share more or less.
        erasing: probability of a rectangle erased.
        crop: to what share of the height and of the width is cut off; what is left, anywhere in
            the crop, fills it again.
        saturation: to what share more or less colourful.
        hue: to what share of the colour circle the colours turn either way, 0.5 to their opposites.
    """

    flip: float = 0.5
    rotation: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    shift: float = 0.05
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0
    crop: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "erasing"):
            require(0 <= getattr(self, name) <= 1, f"augment.{name} must lie in 0..1")
        for name in ("zoom", "shift", "brightness", "contrast", "crop", "saturation"):
            require(0 <= getattr(self, name) < 1, f"augment.{name} must be 0 or more and under 1")
        for name in ("rotation", "shear"):
            require(0 <= getattr(self, name) < 90, f"augment.{name} must be 0 or more and under 90")
        require(0 <= self.hue <= 0.5, "augment.hue must lie in 0..0.5")


@dataclass(frozen=True, kw_only=True)
class LossConfig(ConfigSection):
    """The losses and their weights; 0 leaves one out.

    Attributes:
        identity: weight of the cross-entropy over people.
        triplet: weight of the batch-hard triplet loss.
        attributes: weight of the cross-entropy over attributes.
        smoothing: label smoothing of both cross-entropies.
        margin: of the triplet loss; 0 takes the soft margin.
        mining: hard takes the farthest positive and the nearest negative of each anchor, semihard
            for each positive the nearest negative that is farther than it.
    """

    identity: float = 1.0
    triplet: float = 1.0
    attributes: float = 1.0
    smoothing: float = 0.1
    margin: float = 0.3
    mining: Literal["hard", "semihard"] = "hard"

    def __post_init__(self) -> None:
        for name in ("identity", "triplet", "attributes", "margin"):
            require(
                0 <= getattr(self, name) <= MAX_WEIGHT,
                f"loss.{name} must lie in 0..{MAX_WEIGHT:.0f}",
            )
        require(0 <= self.smoothing < 1, "loss.smoothing must be 0 or more and under 1")
        require(self.identity + self.triplet + self.attributes > 0, "every loss has weight 0")


@dataclass(frozen=True, kw_only=True)
class MultitaskLossConfig(ConfigSection):
    """The losses of a multi-task network and their weights; 0 leaves one out.

    Attributes:
        labels: weight of the cross-entropy over the classes, or over the attributes.
        masks: weight of the binary cross-entropy over the pixels of the masks.
        smoothing: label smoothing of the cross-entropy over labels.
    """

    labels: float = 1.0
    masks: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("labels", "masks"):
            require(
                0 <= getattr(self, name) <= MAX_WEIGHT,
                f"loss.{name} must lie in 0..{MAX_WEIGHT:.0f}",
            )
        require(0 <= self.smoothing < 1, "loss.smoothing must be 0 or more and under 1")
        require(self.labels + self.masks > 0, "every loss has weight 0")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(ConfigSection):
    """The optimiser and its learning rate over time.

    Attributes:
        name: adamw, adam, sgd or rmsprop.
        learning_rate: at its highest.
        weight_decay: of the optimiser.
        momentum: of sgd and rmsprop.
        schedule: cosine falls to 0 at the end, step falls by a tenth at each milestone.
        warmup: share of the training over which the rate rises from 0.
        milestones: of step, as shares of the training.
    """

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup: float = 0.05
    milestones: tuple[float, ...] = (0.5, 0.8)

    def __post_init__(self) -> None:
        require(
            0 < self.learning_rate <= MAX_RATE,
            f"optimizer.learning_rate must be above 0 and at most {MAX_RATE:g}",
        )
        require(
            0 <= self.weight_decay <= MAX_RATE,
            f"optimizer.weight_decay must lie in 0..{MAX_RATE:g}",
        )
        require(0 <= self.momentum < 1, "optimizer.momentum must be 0 or more and under 1")
        require(0 <= self.warmup < 1, "optimizer.warmup must be 0 or more and under 1")
        require(all(0 < m < 1 for m in self.milestones), "optimizer.milestones must lie in 0..1")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(ConfigSection):
    """How a model is judged while it trains, on images it never sees.

    Attributes:
        every: epochs from one validation to the next.
        select_by: figure that names the best epoch.
        patience: validations without a better figure before training stops; 0 never stops.
    """

    every: int = 1
    select_by: str = "validation_loss"
    patience: int = 0

    def __post_init__(self) -> None:
        require(self.every >= 1, "validation.every must be 1 or more")
        require(self.patience >= 0, "validation.patience must be 0 or more")

    @property
    def mode(self) -> Literal["max", "min"]:
        """Return "max" where a higher value of the metric is better, and "min" for a loss."""
        return "min" if self.select_by == "validation_loss" else "max"

    def score(self, value: float) -> float:
        """Return a value of the metric, negated for a loss, so that the higher score is better.

        The score of a value that is not finite is minus infinity.
        """
        if not isfinite(value):
            return -inf
        return value if self.mode == "max" else -value

    def is_better(self, value: float, best: float) -> bool:
        """Tell whether a value of the metric improves on the best one so far."""
        return self.score(value) > self.score(best)


@dataclass(frozen=True, kw_only=True)
class ReidValidationConfig(ValidationConfig):
    """How a model is judged while it trains, on people it never sees.

    Attributes:
        every: epochs from one validation to the next.
        select_by: figure that names the best epoch.
        patience: validations without a better figure before training stops; 0 never stops.
        metric: distance between embeddings; scoring uses the same by default.
        protocol: what a query does not see, as in jobs/evaluate.py; by default market1501 where
            every image has a camera and somebody is seen by several, else all.
    """

    select_by: Literal["mean_ap", "rank1", "attribute_accuracy"] = "mean_ap"
    metric: Literal["cosine", "euclidean"] = "cosine"
    protocol: Literal["market1501", "cuhk03", "all"] | None = None


@dataclass(frozen=True, kw_only=True)
class MultitaskValidationConfig(ValidationConfig):
    """How a model is judged while it trains, on images it never sees.

    Attributes:
        every: epochs from one validation to the next.
        select_by: figure that names the best epoch, the least loss or the most of another.
        patience: validations without a better figure before training stops; 0 never stops.
    """

    select_by: Literal[
        "validation_loss", "accuracy", "macro_f1", "mask_f1", "mask_iou", "attribute_accuracy"
    ] = "validation_loss"
