"""What the scoring and evaluation jobs may be told."""

import math
from dataclasses import dataclass
from typing import Literal

Metric = Literal["euclidean", "cosine"]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """A night's scoring.

    Attributes:
        model: model directory, RUN/model of a training run.
        queries: folder or s3:// URI of the query images.
        gallery: folder or s3:// URI of the gallery images.
        output: folder to write; an earlier night's is replaced in one step.
        top_k: gallery images to name for each query.
        metric: distance between embeddings; by default the one the model was validated with.
        max_distance: images farther from a query than this are not named, so that a query of
            somebody unknown has none; jobs/evaluate.py --false-accept-rate finds a good one.
        max_bad: share of the images of either folder that may fail to decode.
        num_workers: embedding processes; by default one for each GPU, or each CPU.
        use_gpu: auto takes GPUs where the cluster has them.
    """

    model: str
    queries: str
    gallery: str
    output: str
    top_k: int = 50
    metric: Metric | None = None
    max_distance: float | None = None
    max_bad: float = 0.01
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError("top-k must be 1 or more")
        if self.max_distance is not None and math.isnan(self.max_distance):
            raise ValueError("max-distance must be a number")
        _check_shared(self.max_bad, self.num_workers)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge the files of a night against a known truth, or a model on a labelled set.

    Attributes:
        ranking: reid_test.txt to judge.
        truth: JSON file, query name to the list of its correct gallery names.
        gallery: in place of truth, the gallery whose file names tell person and camera.
        attributes: classification_test.csv to judge.
        attributes_truth: file of the same form that holds the right answers.
        model: model directory to judge, with data.
        data: folder or s3:// URI of a set with query and gallery, or a CSV or Parquet manifest.
        layout: how the data is laid out; auto recognises it.
        protocol: market1501 leaves out what the query's own camera saw; by default it is taken
            where the set has cameras, else all.
        metric: distance between embeddings; by default the one the model was validated with.
        max_bad: share of the images of either split that may fail to decode.
        num_workers: embedding processes; by default one for each GPU, or each CPU.
        use_gpu: auto takes GPUs where the cluster has them.
    """

    ranking: str | None = None
    truth: str | None = None
    gallery: str | None = None
    attributes: str | None = None
    attributes_truth: str | None = None
    model: str | None = None
    data: str | None = None
    layout: str = "auto"
    protocol: Literal["market1501", "all", "single_shot"] | None = None
    metric: Metric | None = None
    max_bad: float = 0.01
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"

    def __post_init__(self) -> None:
        _check_shared(self.max_bad, self.num_workers)
        files = (self.ranking, self.truth, self.gallery, self.attributes, self.attributes_truth)
        if (self.model is None) != (self.data is None):
            raise ValueError("model and data belong together: give --model DIR --data URI")
        if (self.model is None) == (not any(files)):
            raise ValueError(
                "give either files to judge (--ranking with --truth, --attributes with "
                "--attributes-truth) or --model DIR --data URI"
            )
        if (self.ranking is None) != (self.truth is None and self.gallery is None):
            raise ValueError("a ranking needs its truth: give --ranking with --truth or --gallery")
        if self.truth is not None and self.gallery is not None:
            raise ValueError("give --truth or --gallery, not both")
        if (self.attributes is None) != (self.attributes_truth is None):
            raise ValueError(
                "attributes need their truth: give --attributes and --attributes-truth"
            )


def _check_shared(max_bad: float, num_workers: int | None) -> None:
    if not 0 <= max_bad <= 1:
        raise ValueError("max-bad must lie in 0..1")
    if num_workers is not None and num_workers < 1:
        raise ValueError("num-workers must be 1 or more")
