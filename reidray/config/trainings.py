"""Configure the trainings."""

from dataclasses import InitVar, dataclass, field
from typing import ClassVar, Literal

from reidray.config.loading import load_recipe
from reidray.config.sections.augmentation_options import AugmentConfig
from reidray.config.sections.limits import MAX_IMAGES_A_BATCH, require, require_seed
from reidray.config.sections.loss_options import LossConfig, MultitaskLossConfig
from reidray.config.sections.network_options import NetworkConfig, check_network_name
from reidray.config.sections.optimization import BatchConfig, OptimizerConfig
from reidray.config.sections.section import ConfigSection
from reidray.config.sections.validation_options import (
    MultitaskValidationConfig,
    ReidValidationConfig,
    ValidationConfig,
)
from reidray.registry import import_plugins

MAX_EPOCHS = 1_000_000
MAX_MINUTES = 525_600
"""A year."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(ConfigSection):
    """Hold the settings that all trainings have.

    Attributes:
        data: folder or s3:// URI of the images, or a CSV or Parquet manifest.
        output: run directory to make; by default a new one under runs/.
        layout: how the data is laid out; auto recognises it.
        root: folder or s3:// URI where the paths of a manifest begin; by default the one that its
            metadata name, or its own folder.
        follow_links: read images that links out of the data lead to.
        epochs: passes over the training images.
        max_minutes: end the whole job within this time, from its start to the report; the learning
            rate falls with it.
        seed: of weights, batches and augmentation.
        num_workers: training processes, one for each GPU or share of the CPUs.
        use_gpu: auto takes GPUs where the cluster has them.
        precision: auto is bf16 on a GPU and fp32 on a CPU.
        max_failures: how often training starts again from its last checkpoint after a crash.
        max_bad: share of images that may fail to decode.
        ingest: resident decodes the images once and keeps the crops in memory, stream decodes them
            every epoch while the network computes, auto keeps them where they fit.
        val_fraction: share of the training images kept for validation, whole people where there
            are people.
        split_seed: of the choice of these.
        strict: stop where images and lists do not match.
        plugins: modules on the Python path that register networks, losses, layouts, augmentations
            or metrics of your own.
        network: the network.
        augment: augmentation.
        optimizer: the optimiser.
        validation: validation.
        recipe: name of a recipe, such as `market_small`, whose values replace the defaults of the
            fields that are not given.
    """

    RECIPES: ClassVar[str]

    data: str
    output: str | None = None
    layout: str = "auto"
    root: str | None = None
    follow_links: bool = False
    epochs: int = 60
    max_minutes: float | None = None
    seed: int = 0
    num_workers: int = 1
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    max_failures: int = 2
    max_bad: float = 0.01
    ingest: Literal["auto", "resident", "stream"] = "auto"
    val_fraction: float = 0.3
    split_seed: int = 0
    strict: bool = False
    plugins: tuple[str, ...] = ()
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    recipe: InitVar[str | None] = None

    def __post_init__(self, recipe: str | None) -> None:
        import_plugins(self.plugins)
        if recipe is not None:
            self.fill_in(load_recipe(type(self), recipe))
        require(0 < self.val_fraction < 1, "val-fraction must lie between 0 and 1")
        require(1 <= self.epochs <= MAX_EPOCHS, f"epochs must lie in 1..{MAX_EPOCHS}")
        require(self.num_workers >= 1, "num-workers must be 1 or more")
        require(self.max_failures >= 0, "max-failures must be 0 or more")
        require(0 <= self.max_bad <= 1, "max-bad must lie in 0..1")
        require(
            self.max_minutes is None or 0 < self.max_minutes <= MAX_MINUTES,
            f"max-minutes must be above 0 and at most {MAX_MINUTES}, a year",
        )
        require_seed(self.seed, "seed")
        require_seed(self.split_seed, "split-seed")


@dataclass(frozen=True, kw_only=True)
class TrainReidConfig(TrainingConfig):
    """Train a network that recognises people, and their attributes.

    Attributes:
        batch: a global batch.
        gather_embeddings: whether triplets are mined in the whole batch, not in each worker's
            share of it.
        loss: the losses.
        validation: validation.
    """

    RECIPES: ClassVar = "reid"

    batch: BatchConfig = field(default_factory=BatchConfig)
    gather_embeddings: bool = False
    loss: LossConfig = field(default_factory=LossConfig)
    validation: ReidValidationConfig = field(default_factory=ReidValidationConfig)

    def __post_init__(self, recipe: str | None) -> None:
        super().__post_init__(recipe)
        check_network_name(self.network.name, "reid")
        comparing = [name for name, each in self.loss.used.items() if each.compares_images]
        require(
            not comparing or self.batch.crops >= 2,
            f"the {' and '.join(comparing)} loss needs batch.crops of 2 or more",
        )


@dataclass(frozen=True, kw_only=True)
class TrainMultitaskConfig(TrainingConfig):
    """Train a network that says several things of an image at once.

    Attributes:
        task: pets names the class of an image and draws its mask, attributes says what people
            wear.
        batch_size: images in a global batch, shared by all workers.
        loss: the losses.
        validation: validation.
    """

    RECIPES: ClassVar = "multitask"

    task: Literal["pets", "attributes"]
    batch_size: int = 64
    loss: MultitaskLossConfig = field(default_factory=MultitaskLossConfig)
    validation: MultitaskValidationConfig = field(default_factory=MultitaskValidationConfig)

    def __post_init__(self, recipe: str | None) -> None:
        super().__post_init__(recipe)
        check_network_name(self.network.name, self.task)
        require(
            2 <= self.batch_size <= MAX_IMAGES_A_BATCH,
            f"batch-size must lie in 2..{MAX_IMAGES_A_BATCH}",
        )
        require(
            self.batch_size >= 2 * self.num_workers,
            "batch-size must give each worker 2 images or more",
        )
