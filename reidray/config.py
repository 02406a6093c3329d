"""What a job may be told: typed, checked, printable. Recipes are files of the same keys."""

from dataclasses import dataclass, field
from typing import Literal


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The network.

    Attributes:
        name: apr learns attributes and identity together, baseline identity alone.
        backbone: resnet_tiny, resnet_small or any timm model, such as resnet50.
        weights: where the backbone starts: none, imagenet or a .safetensors file.
        feature_size: width of the dense layer of apr.
        dropout: share of that layer's outputs dropped in training.
        height: rows of a crop.
        width: columns of a crop.
    """

    name: Literal["apr", "baseline"] = "apr"
    backbone: str = "resnet_tiny"
    weights: str = "none"
    feature_size: int = 512
    dropout: float = 0.0
    height: int = 128
    width: int = 64

    def __post_init__(self) -> None:
        _require(self.feature_size > 0, "network.feature_size must be positive")
        _require(0 <= self.dropout < 1, "network.dropout must be 0 or more and under 1")
        _require(min(self.height, self.width) >= 16, "network.height and width must be 16 or more")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """A global batch, shared by all workers.

    Attributes:
        people: people in a batch (P).
        crops: crops of each person (K).
    """

    people: int = 16
    crops: int = 4

    def __post_init__(self) -> None:
        _require(self.people >= 2, "batch.people must be 2 or more")
        _require(self.crops >= 1, "batch.crops must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation; each crop draws its own parameters.

    Attributes:
        flip: probability of a mirror image.
        rotation: to how many degrees either way.
        shear: to how many degrees either way.
        zoom: to what share larger or smaller.
        shift: to what share of the width and height.
        brightness: to what share brighter or darker.
        contrast: to what share more or less.
        erasing: probability of a rectangle erased.
    """

    flip: float = 0.5
    rotation: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    shift: float = 0.05
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "erasing"):
            _require(0 <= getattr(self, name) <= 1, f"augment.{name} must lie in 0..1")
        for name in ("zoom", "shift", "brightness", "contrast"):
            _require(0 <= getattr(self, name) < 1, f"augment.{name} must be 0 or more and under 1")
        for name in ("rotation", "shear"):
            _require(
                0 <= getattr(self, name) < 90, f"augment.{name} must be 0 or more and under 90"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The losses and their weights; 0 leaves one out.

    Attributes:
        identity: weight of the cross-entropy over people.
        triplet: weight of the batch-hard triplet loss.
        attributes: weight of the cross-entropy over attributes.
        smoothing: label smoothing of both cross-entropies.
        margin: of the triplet loss; 0 takes the soft margin.
    """

    identity: float = 1.0
    triplet: float = 1.0
    attributes: float = 1.0
    smoothing: float = 0.1
    margin: float = 0.3

    def __post_init__(self) -> None:
        for name in ("identity", "triplet", "attributes", "margin"):
            _require(getattr(self, name) >= 0, f"loss.{name} must be 0 or more")
        _require(0 <= self.smoothing < 1, "loss.smoothing must be 0 or more and under 1")
        _require(self.identity + self.triplet + self.attributes > 0, "every loss has weight 0")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
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
        _require(self.learning_rate > 0, "optimizer.learning_rate must be positive")
        _require(self.weight_decay >= 0, "optimizer.weight_decay must be 0 or more")
        _require(0 <= self.momentum < 1, "optimizer.momentum must be 0 or more and under 1")
        _require(0 <= self.warmup < 1, "optimizer.warmup must be 0 or more and under 1")
        _require(all(0 < m < 1 for m in self.milestones), "optimizer.milestones must lie in 0..1")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """How a model is judged while it trains, on people it never sees.

    Attributes:
        every: epochs from one validation to the next.
        select_by: figure that names the best epoch.
        patience: validations without a better figure before training stops; 0 never stops.
        metric: distance between embeddings; scoring uses the same by default.
    """

    every: int = 1
    select_by: Literal["mean_ap", "rank1", "attribute_accuracy"] = "mean_ap"
    patience: int = 0
    metric: Literal["cosine", "euclidean"] = "cosine"

    def __post_init__(self) -> None:
        _require(self.every >= 1, "validation.every must be 1 or more")
        _require(self.patience >= 0, "validation.patience must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainReidConfig:
    """Train a network that recognises people, and their attributes.

    Attributes:
        data: folder or s3:// URI of the images, or a CSV or Parquet manifest.
        output: run directory to make; by default a new one under runs/.
        layout: how the data is laid out; auto recognises it.
        epochs: passes over the training people.
        max_minutes: end the whole job within this time, learning rate included.
        seed: of weights, batches and augmentation.
        num_workers: training processes, one for each GPU or share of the CPUs.
        use_gpu: auto takes GPUs where the cluster has them.
        precision: auto is bf16 on a GPU and fp32 on a CPU.
        max_failures: how often training starts again from its last checkpoint after a crash.
        max_bad: share of images that may fail to decode.
        val_fraction: share of the training images whose people are kept for validation.
        split_seed: of the choice of these people.
        strict: stop where people and annotations do not match.
        network: the network.
        batch: a global batch.
        augment: augmentation.
        loss: the losses.
        optimizer: the optimiser.
        validation: validation.
    """

    data: str
    output: str | None = None
    layout: str = "auto"
    epochs: int = 60
    max_minutes: float | None = None
    seed: int = 0
    num_workers: int = 1
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    max_failures: int = 2
    max_bad: float = 0.01
    val_fraction: float = 0.3
    split_seed: int = 0
    strict: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        _require(0 < self.val_fraction < 1, "val-fraction must lie between 0 and 1")
        _require(self.epochs >= 1, "epochs must be 1 or more")
        _require(self.num_workers >= 1, "num-workers must be 1 or more")
        _require(self.max_failures >= 0, "max-failures must be 0 or more")
        _require(0 <= self.max_bad <= 1, "max-bad must lie in 0..1")
        _require(self.max_minutes is None or self.max_minutes > 0, "max-minutes must be positive")
        _require(
            self.loss.triplet == 0 or self.batch.crops >= 2,
            "the triplet loss needs batch.crops of 2 or more",
        )


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """The whole way on a set of drawn people.

    Attributes:
        folder: to hold the demo set, the run directory and the scores; by default a new one under
            runs/.
        seed: of the drawings and of training.
        num_workers: training processes.
    """

    folder: str | None = None
    seed: int = 0
    num_workers: int = 2

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed must be 0 or more")
        _require(self.num_workers >= 1, "num-workers must be 1 or more")
