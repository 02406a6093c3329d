"""Configure the comparison of baselines and models."""

from dataclasses import dataclass
from typing import Literal

from reidray.config.sections.limits import MAX_BASELINE_PIXELS, check_split, require_seed
from reidray.registry import import_plugins

ComparedMetric = Literal["euclidean", "cosine", "l1"]
LDA_NAME = "LDA"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Hold the options of a comparison of baselines and models on one gallery and its queries.

    Attributes:
        data: folder or s3:// URI of a set with train, query and gallery, or a CSV or Parquet
            manifest.
        output: folder or s3:// URI to write: comparison.json, table.csv and report.html; they
            replace an earlier output.
        task: reid compares rankings of people, pets the classes and masks of test images. The
            baselines and the distances apply to reid.
        models: trained models to compare, each as NAME=DIR with a model directory DIR.
        pca: principal components of each PCA baseline: a share of the variance under 1, or a
            number of components.
        pca_variants: also evaluate PCA of augmented training images and PCA without standardised
            pixels; takes four times as long to fit.
        protocol: rules of the ranking, as in the job evaluate and with the same default.
        metric: distance for all methods; by default cosine for the baselines, and for a model the
            distance that it was validated with.
        height: height of the baselines' crops, in pixels.
        width: width of the baselines' crops, in pixels.
        grey: give the baselines luminance instead of colour.
        val_fraction: share of the training images whose people the baselines do not learn from, as
            in training; with 0 they learn from all training people.
        split_order: random draws these people, files takes the last ones in the order of the files,
            as in training.
        split_seed: seed of the random order, as in training.
        seed: seed of the people, triplets and maps that the report shows.
        layout: layout of the data; auto recognises it.
        root: folder or s3:// URI to which the paths of a manifest are relative; by default the one
            that its metadata names, or its own folder.
        follow_links: read images behind links that lead out of the data.
        max_bad: share of the images that may fail to decode, in 0..1.
        num_workers: number of embedding processes; by default one for each GPU, or each CPU.
        use_gpu: use GPUs; auto uses them where the cluster has some.
        precision: fp32 runs models in float32, bf16 their backbones in bfloat16; auto is bf16 on a
            GPU and fp32 on a CPU.
        flip: average the embeddings of each image and of its mirror image, for models only;
            takes twice the time.
        no_images: leave every picture of an image out of the report.
        plugins: modules on the Python path that register the networks of the models, where the
            networks are your own.
    """

    data: str
    output: str
    task: Literal["reid", "pets"] = "reid"
    models: tuple[str, ...] = ()
    pca: tuple[float, ...] = (0.95,)
    pca_variants: bool = False
    protocol: Literal["market1501", "all", "single_shot", "cuhk03"] | None = None
    metric: ComparedMetric | None = None
    height: int = 64
    width: int = 32
    grey: bool = False
    val_fraction: float = 0.3
    split_order: Literal["random", "files"] = "random"
    split_seed: int = 0
    seed: int = 0
    layout: str = "auto"
    root: str | None = None
    follow_links: bool = False
    max_bad: float = 0.01
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    flip: bool = False
    no_images: bool = False
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        import_plugins(self.plugins)
        if not self.pca:
            raise ValueError("`pca` is empty: give a number of components or a share")
        for components in self.pca:
            if not (0 < components < 1 or (components >= 1 and float(components).is_integer())):
                raise ValueError(f"`pca={components:g}` must be a share under 1 or a whole number")
        if min(self.height, self.width) < 1:
            raise ValueError("`height` and `width` must be 1 or more")
        values = self.height * self.width * (1 if self.grey else 3)
        if values > MAX_BASELINE_PIXELS:
            raise ValueError(
                f"`height` and `width` give {values:,} values a crop and the baselines take "
                f"{MAX_BASELINE_PIXELS:,}: use smaller crops, or `grey=True`"
            )
        if not 0 <= self.val_fraction < 1:
            raise ValueError("`val_fraction` must be 0 or more and less than 1")
        require_seed(self.seed, "`seed`")
        check_split(self.split_order, self.split_seed)
        if not 0 <= self.max_bad <= 1:
            raise ValueError("`max_bad` must lie in 0..1")
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError("`num_workers` must be 1 or more")
        self._check_names()

    @property
    def model_folders(self) -> dict[str, str]:
        """Return the directory of each model by name."""
        return dict(model.split("=", 1) for model in self.models)

    @property
    def pca_names(self) -> dict[str, float]:
        """Return the components of each PCA baseline by name."""
        return {pca_name(components): components for components in self.pca}

    def _check_names(self) -> None:
        names = [pca_name(components) for components in self.pca] + [LDA_NAME]
        for model in self.models:
            name, separator, folder = model.partition("=")
            if not (name and separator and folder):
                raise ValueError(f"`models` has {model!r}: expected NAME=DIR")
            names.append(name)
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two methods are named {name!r}: give each a name of its own")


def pca_name(components: float) -> str:
    """Return the name of a PCA baseline: `PCA 95%` for a share, `PCA 64` for a number."""
    return f"PCA {100 * components:g}%" if components < 1 else f"PCA {int(components)}"
