"""Configure the trainings."""

from dataclasses import InitVar, dataclass, field, fields, replace
from typing import ClassVar, Literal, Self

from reidray.config.data_sources import OneOrMore, as_tuple, check_sources
from reidray.config.loading import load_recipe
from reidray.config.sections.augmentation_options import AugmentConfig
from reidray.config.sections.limits import (
    MAX_IMAGES_A_BATCH,
    check_split,
    find_mistakes,
    require,
    require_seed,
)
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
        data: folder or s3:// URI of the images, or a CSV or Parquet manifest; several are trained
            on together, as data sets that share no person.
        output: run directory, new; by default one under runs/.
        layout: layout of the data, or one for each of several sets; auto recognises it.
        root: folder or s3:// URI to which the paths of a manifest are relative; by default the one
            that its metadata names, or its own folder.
        follow_links: read images behind links that lead out of the data.
        epochs: number of passes over the training images.
        max_minutes: time limit of the whole job, from its start to the report, in minutes; the
            learning rate follows it.
        auto_batch: find the largest batch that fits into the memory of a GPU, before the training,
            and use it in place of the batch that is given; --batch auto means the same.
        seed: seed of the weights, the batches and the augmentation.
        num_workers: number of training processes, each with a GPU or a share of the CPUs; auto
            takes all GPUs that the cluster may grow to, or a process for each node without any.
        min_workers: number of training processes with which the training begins, and goes on where
            nodes are lost, up to `num_workers`, as on spot nodes; only numbers that divide a batch
            evenly. By default the number is fixed.
        use_gpu: use GPUs; auto uses them where the cluster has some.
        sync_batchnorm: compute the statistics of batch normalisation over the batches of all
            workers instead of each worker's share, which needs GPUs; auto does so where several
            workers have fewer than 16 images each. PyTorch waits for the GPU in each such layer.
        precision: precision of the network; auto is bf16 on a GPU and fp32 on a CPU. On a GPU fp32
            multiplies in TF32, with 10 bits of mantissa. Losses and weights are always float32.
        compile: compile the network with torch.compile, which takes a minute or more and pays in
            long trainings; `max_minutes` counts it, and the learning rate does not.
        max_failures: number of restarts from the last checkpoint after a crash.
        max_bad: share of the images that may fail to decode, in 0..1.
        ingest: resident decodes the images once and keeps the crops in memory, stream decodes them
            every epoch while the network computes, auto keeps them where they fit.
        val_fraction: share of the training images kept for validation, in 0..1; the images of a
            person stay together.
        split_order: random draws the people, or the images of each class, that are kept; files
            keeps the last ones in the order of the files, so that a person on the border trains.
        split_seed: seed of the random order.
        strict: stop where images and lists do not match.
        no_images: leave every picture of an image out of the report.
        plugins: modules on the Python path that register networks, losses, layouts, augmentations
            or metrics of your own.
        network: the network.
        augment: augmentation.
        optimizer: the optimiser.
        validation: validation.
        recipe: name of a recipe, such as `market_small`, whose values replace the defaults of the
            fields that are not given.
    """

    HAS_PLAN: ClassVar = True
    RECIPES: ClassVar[str]
    BATCH_FIELD: ClassVar[str]

    data: OneOrMore
    output: str | None = None
    layout: OneOrMore = "auto"
    root: str | None = None
    follow_links: bool = False
    epochs: int = 60
    max_minutes: float | None = None
    auto_batch: bool = False
    seed: int = 0
    num_workers: int | Literal["auto"] = 1
    min_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    sync_batchnorm: Literal["auto", "yes", "no"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    max_failures: int = 2
    max_bad: float = 0.01
    ingest: Literal["auto", "resident", "stream"] = "auto"
    val_fraction: float = 0.3
    split_order: Literal["random", "files"] = "random"
    split_seed: int = 0
    strict: bool = False
    no_images: bool = False
    plugins: tuple[str, ...] = ()
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    recipe: InitVar[str | None] = None

    def __post_init__(self, recipe: str | None) -> None:
        names = {each.name: f"`{each.name}`" for each in fields(self)}
        for mistake in find_mistakes(type(self), vars(self), names):
            raise ValueError(mistake)
        check_sources(self)
        import_plugins(self.plugins)
        if recipe is not None:
            self.fill_in(load_recipe(type(self), recipe))
        require(0 < self.val_fraction < 1, "`val_fraction` must be above 0 and below 1")
        require(1 <= self.epochs <= MAX_EPOCHS, f"`epochs` must lie in 1..{MAX_EPOCHS}")
        require(self.workers >= 1, "`num_workers` must be 1 or more")
        self._check_min_workers()
        require(
            self.sync_batchnorm != "yes" or self.use_gpu != "no",
            "`sync_batchnorm` yes needs GPUs and `use_gpu` is no: leave it at auto",
        )
        require(
            not self.auto_batch or self.use_gpu != "no",
            "`auto_batch` fills the memory of a GPU and `use_gpu` is no: "
            f"give a number in `{self.BATCH_FIELD}`",
        )
        require(
            self.auto_batch or self.optimizer.scale_learning_rate == "none",
            "`optimizer.scale_learning_rate` scales for the batch that `auto_batch` finds: give "
            "`auto_batch=True` too",
        )
        require(self.max_failures >= 0, "`max_failures` must be 0 or more")
        require(0 <= self.max_bad <= 1, "`max_bad` must lie in 0..1")
        require(
            self.max_minutes is None or 0 < self.max_minutes <= MAX_MINUTES,
            f"`max_minutes` must be above 0 and at most {MAX_MINUTES}, a year",
        )
        require_seed(self.seed, "`seed`")
        check_split(self.split_order, self.split_seed)

    def _check_min_workers(self) -> None:
        if self.min_workers is None:
            return
        require(self.min_workers >= 1, "`min_workers` must be 1 or more")
        require(
            self.num_workers == "auto" or self.min_workers <= self.num_workers,
            f"`min_workers` is {self.min_workers}, above `num_workers`, which is "
            f"{self.num_workers}: give a larger `num_workers`, or auto",
        )
        require(
            not self.auto_batch,
            "`auto_batch` finds a batch for a fixed number of workers: leave out `min_workers`, or "
            f"give a number in `{self.BATCH_FIELD}`",
        )

    @property
    def workers(self) -> int:
        """Return the largest number of training processes; 1 until `auto` has been resolved."""
        return 1 if self.num_workers == "auto" else self.num_workers

    @property
    def gpu_setting(self) -> str | None:
        """Return the setting that needs GPUs, for a message; None where CPUs do too."""
        if self.use_gpu == "yes":
            return "`use_gpu=yes`"
        if self.auto_batch:
            return "`auto_batch`"
        return "`sync_batchnorm=yes`" if self.sync_batchnorm == "yes" else None

    @property
    def images_per_batch(self) -> int:
        """Return the number of images in a global batch."""
        raise NotImplementedError

    @property
    def batch_step(self) -> int:
        """Return the number of images by which a batch grows."""
        raise NotImplementedError

    def with_images_per_batch(self, images: int) -> Self:
        """Return the configuration with another size of a global batch."""
        raise NotImplementedError

    def describe_batch(self) -> str:
        """Return the size of a global batch, such as `64 images`."""
        return f"{self.images_per_batch} images"


@dataclass(frozen=True, kw_only=True)
class TrainReidConfig(TrainingConfig):
    """Hold the settings of a training that recognises people, and their attributes.

    Attributes:
        batch: a global batch.
        gather_embeddings: compare the images of the whole batch with each other, instead of those
            in each worker's share of it, in the losses over pairs and triplets.
        loss: the losses.
        validation: validation.
    """

    RECIPES: ClassVar = "reid"
    BATCH_FIELD: ClassVar = "batch.people"

    batch: BatchConfig = field(default_factory=BatchConfig)
    gather_embeddings: bool = False
    loss: LossConfig = field(default_factory=LossConfig)
    validation: ReidValidationConfig = field(default_factory=ReidValidationConfig)

    def __post_init__(self, recipe: str | None) -> None:
        super().__post_init__(recipe)
        check_network_name(self.network.name, "reid")
        comparing = [name for name, each in self.loss.used.items() if each.compares_images]
        names = ", ".join(comparing)
        subject = f"the losses {names} need" if len(comparing) > 1 else f"the {names} loss needs"
        require(not comparing or self.batch.crops >= 2, f"{subject} `batch.crops` of 2 or more")

    @property
    def images_per_batch(self) -> int:
        """Return P x K."""
        return self.batch.people * self.batch.crops

    @property
    def batch_step(self) -> int:
        """Return K, the crops of one person."""
        return self.batch.crops

    def with_images_per_batch(self, images: int) -> Self:
        """Return the configuration with other people in a batch."""
        return replace(self, batch=replace(self.batch, people=images // self.batch.crops))

    def describe_batch(self) -> str:
        """Return the size of a global batch, such as `16 people x 4 crops`."""
        return f"{self.batch.people} people x {self.batch.crops} crops"


@dataclass(frozen=True, kw_only=True)
class TrainMultitaskConfig(TrainingConfig):
    """Hold the settings of a training on classes and masks, or on attributes.

    Attributes:
        task: pets predicts the class and the mask of an image, attributes predicts the attributes
            of a person.
        batch_size: number of images in a global batch, shared by all workers.
        loss: the losses.
        validation: validation.
    """

    RECIPES: ClassVar = "multitask"
    BATCH_FIELD: ClassVar = "batch_size"

    task: Literal["pets", "attributes"]
    batch_size: int = 64
    loss: MultitaskLossConfig = field(default_factory=MultitaskLossConfig)
    validation: MultitaskValidationConfig = field(default_factory=MultitaskValidationConfig)

    def __post_init__(self, recipe: str | None) -> None:
        super().__post_init__(recipe)
        require(
            len(as_tuple(self.data)) == 1,
            f"`data` names {len(as_tuple(self.data))} sets, and a multi-task training takes one: "
            "give one, or join them in a manifest",
        )
        check_network_name(self.network.name, self.task)
        require(
            2 <= self.batch_size <= MAX_IMAGES_A_BATCH,
            f"`batch_size` must lie in 2..{MAX_IMAGES_A_BATCH}",
        )
        require(
            self.batch_size >= 2 * self.workers,
            "`batch_size` must give each worker 2 images or more",
        )

    @property
    def images_per_batch(self) -> int:
        """Return the number of images in a global batch."""
        return self.batch_size

    @property
    def batch_step(self) -> int:
        """Return 1: a batch may have any number of images."""
        return 1

    def with_images_per_batch(self, images: int) -> Self:
        """Return the configuration with another size of a global batch."""
        return replace(self, batch_size=images)
