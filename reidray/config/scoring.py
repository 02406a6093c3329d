"""Configure the nightly run, the evaluation and the deletion of embeddings."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import ClassVar, Literal

from reidray.config.data_sources import OneOrMore, check_sources, one_or_more
from reidray.registry import import_plugins

Metric = Literal["euclidean", "cosine"]
STALL_MINUTES = 15.0
RERANK_NEIGHBOURS = 20
"""Images in a neighbourhood of re-ranking, k1 of `reidray.retrieval.Reranking`."""

MAX_RANKS = 1_000_000
"""Longest cumulative match curve."""

ProtocolName = Literal["market1501", "all", "single_shot", "cuhk03"]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Configure a nightly run.

    Attributes:
        model: model directory, RUN/model of a training run.
        queries: folder or s3:// URI of the query images.
        gallery: folder or s3:// URI of the gallery images.
        output: folder or s3:// URI of the files; it replaces the output of an earlier run in one
            step.
        store: folder or s3:// URI that keeps the embeddings, so that the next run embeds only new
            images; by default the run keeps none.
        full: embed every image again, and replace what the store holds of this model.
        follow_links: read images that links out of either folder lead to.
        top_k: number of gallery images to name for each query.
        metric: distance between embeddings; by default the metric of the model's validation.
        max_distance: largest distance of a gallery image that a query names, so that a query of
            an unknown person names none; jobs/evaluate.py --false-accept-rate finds a good value.
        rerank: number of nearest gallery images of each query to re-rank by k-reciprocal
            neighbours, 21 or more and at least top_k; 0 re-ranks none.
        expand: number of nearest gallery images by which each query is expanded before the search;
            0 expands none.
        distractor_scores: also write distractors.csv: for each gallery image two scores that rise
            with the likelihood that it shows no person.
        max_distractor_score: leave gallery images with a higher distractor_score out of the
            ranking; the time grows with the square of the gallery.
        attribute_neighbours: number of gallery images, the image itself and those nearest to it,
            that vote on the attributes of a gallery image; with more than 1 the time grows with
            the square of the gallery.
        max_bad: share of the images of either folder that may fail to decode.
        keep_missing: give a gallery image that does not decode a row of -1 among the attributes.
        num_workers: number of embedding processes; by default one for each GPU, or each CPU.
        use_gpu: auto takes GPUs where the cluster has them.
        engine: local embeds in this process or by a pool of actors that send it the embeddings,
            ray-data embeds, writes and ranks in the workers of a cluster; auto is ray-data on a
            cluster of several machines, and local elsewhere.
        precision: fp32 embeds in float32, bf16 runs the backbone in bfloat16; auto is bf16 on a
            GPU and fp32 on a CPU. A store keeps the embeddings of each precision apart.
        flip: average the embeddings of each image and of its mirror image, which takes twice the
            time; a store keeps them apart from others.
        stall_timeout: minutes without an answer after which an embedding process is replaced, on
            another machine where there is one; the fifth time ends the job.
        plugins: modules on the Python path that register the networks of the models, where the
            networks are your own.
    """

    HAS_PLAN: ClassVar = True

    model: str
    queries: str
    gallery: str
    output: str
    store: str | None = None
    full: bool = False
    follow_links: bool = False
    top_k: int = 50
    metric: Metric | None = None
    max_distance: float | None = None
    rerank: int = 0
    expand: int = 0
    distractor_scores: bool = False
    max_distractor_score: float | None = None
    attribute_neighbours: int = 1
    max_bad: float = 0.01
    keep_missing: bool = False
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    engine: Literal["auto", "local", "ray-data"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    flip: bool = False
    stall_timeout: float = STALL_MINUTES
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        import_plugins(self.plugins)
        for name in ("top_k", "attribute_neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 or more")
        for name in ("rerank", "expand"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be 0 or more")
        least = max(RERANK_NEIGHBOURS + 1, self.top_k)
        if 0 < self.rerank < least:
            raise ValueError(
                f"`rerank={self.rerank}` is too few: expected at least {least}, more than the "
                f"{RERANK_NEIGHBOURS} images in the neighbourhood of an image, and no fewer than "
                f"`top_k={self.top_k}` names for each query"
            )
        for name in ("max_distance", "max_distractor_score"):
            if math.isnan(getattr(self, name) or 0):
                raise ValueError(f"`{name}` must be a number")
        if self.max_distance is not None and self.max_distance < 0:
            raise ValueError("`max_distance` must be 0 or more, as no distance is negative")
        check_embedding(self.max_bad, self.num_workers, self.stall_timeout)

    @property
    def scores_distractors(self) -> bool:
        """Return whether the run computes distractor scores."""
        return self.distractor_scores or self.max_distractor_score is not None


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Configure the evaluation of a ranking, of attributes, of features or of a model.

    Attributes:
        ranking: reid_test.txt to evaluate, with `truth` or `gallery`.
        truth: correct gallery names of each query: a JSON object, query name to a list of names,
            or lines of the form of a ranking.
        gallery: in place of `truth`, the gallery whose file names hold person and camera.
        attributes: classification_test.csv to evaluate, with `attributes_truth`.
        attributes_truth: file of the same form with the correct attributes.
        query_features: .npz or .parquet file of the queries' features, with `gallery_features`.
        gallery_features: .npz or .parquet file of the gallery's features.
        model: model directory to evaluate, with `data`; several are evaluated on each set.
        data: folder or s3:// URI of a set with query and gallery, or a CSV or Parquet manifest;
            several give a table of models and sets.
        output: folder or s3:// URI for the metrics, a table of the queries and a plot of the CMC.
        max_rank: length of the CMC in the output.
        protocol: market1501 leaves out what the query's own camera took, cuhk03 also draws one
            image per person, single_shot has one image per person, all leaves nothing out; by
            default single_shot where the gallery has one image per person, else market1501 where
            every image has a camera and a query a match in another one, else all. A truth file
            holds the matches itself.
        metric: distance between features; by default the metric of the model's validation, which
            the files of jobs/embed.py name, and euclidean for other feature files.
        ap_rule: average precision by the standard rule, which is the default, or by the older
            trapezoid rule.
        unmatched: skip, the default, leaves queries without a match out; zero counts them as 0.
        rerank: re-rank by k-reciprocal neighbours before the evaluation.
        false_accept_rate: also find the distance within which a query of a person who is not in
            the gallery gets a name this often, and how often the right person then does.
        distractor_scores: also measure how well the scores of score_nightly's distractors.csv tell
            distractors (person 0) and junk (person -1) from people; takes as long as a ranking of
            the gallery for each of its own images.
        layout: layout of the data, or one for each of several sets; auto recognises it.
        root: folder or s3:// URI where the paths of a manifest begin; by default the folder that
            its metadata names, or its own folder.
        follow_links: read images that links out of the data, or the gallery, lead to.
        max_bad: share of the images of either split that may fail to decode.
        num_workers: number of embedding processes; by default one for each GPU, or each CPU.
        use_gpu: auto takes GPUs where the cluster has them.
        stall_timeout: minutes without an answer after which an embedding process is replaced, on
            another machine where there is one; the fifth time ends the job.
        precision: fp32 embeds in float32, bf16 runs the backbone in bfloat16; auto is bf16 on a
            GPU and fp32 on a CPU.
        flip: average the embeddings of each image and of its mirror image, which takes twice the
            time.
        plugins: modules on the Python path that register the networks of the models, where the
            networks are your own.
    """

    ranking: str | None = None
    truth: str | None = None
    gallery: str | None = None
    attributes: str | None = None
    attributes_truth: str | None = None
    query_features: str | None = None
    gallery_features: str | None = None
    model: OneOrMore | None = None
    data: OneOrMore | None = None
    output: str | None = None
    max_rank: int = 50
    protocol: ProtocolName | None = None
    metric: Literal["euclidean", "cosine", "l1"] | None = None
    ap_rule: Literal["standard", "trapezoid"] | None = None
    unmatched: Literal["skip", "zero"] | None = None
    rerank: bool = False
    false_accept_rate: float | None = None
    distractor_scores: bool = False
    layout: OneOrMore = "auto"
    root: str | None = None
    follow_links: bool = False
    max_bad: float = 0.01
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    stall_timeout: float = STALL_MINUTES
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    flip: bool = False
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        import_plugins(self.plugins)
        check_sources(self)
        object.__setattr__(self, "model", one_or_more(self.model))
        check_embedding(self.max_bad, self.num_workers, self.stall_timeout)
        if not 1 <= self.max_rank <= MAX_RANKS:
            raise ValueError(f"`max_rank` must lie in 1..{MAX_RANKS}")
        if self.false_accept_rate is not None and not 0 <= self.false_accept_rate < 1:
            raise ValueError("`false_accept_rate` must be 0 or more, and less than 1")
        given = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        for pair in _PAIRS:
            if len(given & set(pair)) == 1:
                raise ValueError(f"{_join(pair, ' and ')} belong together: give both")
        if "ranking" in given and len(given & {"truth", "gallery"}) != 1:
            raise ValueError("a ranking needs one truth: give `ranking` with `truth` or `gallery`")
        for option, companions in _COMPANIONS.items():
            if option in given and not given & set(companions):
                raise ValueError(
                    f"`{option}` goes with {_join(companions, ' or ')}: give one, or leave it out"
                )
        if sum(bool(given & set(subject)) for subject in _SUBJECTS) != 1:
            raise ValueError(
                "give one thing to evaluate: `ranking` with `truth` or `gallery`, `attributes` "
                "with `attributes_truth`, `query_features` with `gallery_features`, or `model` "
                "with `data`"
            )

    @property
    def is_cross_domain(self) -> bool:
        """Return whether several models, or several sets, are evaluated against each other."""
        return any(isinstance(each, tuple) for each in (self.model, self.data))


@dataclass(frozen=True, kw_only=True)
class ForgetConfig:
    """Configure the deletion of embeddings: of an image, of a person, or made before a day.

    The deletion does not touch the images, nor files that name them. Delete the images first, or
    the next nightly run embeds them again.

    Attributes:
        store: folder or s3:// URI of the embeddings.
        image: path of an image, as the ranking has it, or its whole address. Images with the same
            content under other names are deleted too.
        person: person on the images: the number or name that file names begin with, as in
            0002_c1s1_000451_03.jpg, or the name or number of a folder within the scored folder. A
            folder below others, which may be a camera's, is given with these, as people/2, or as a
            whole address. distractors and junk stand for the images whose names begin with 0 and
            with -1.
        before: a day, as 2026-11-21 (UTC); embeddings made on earlier days are deleted.
        dry_run: only list what would be deleted, and change nothing.
    """

    store: str
    image: str | None = None
    person: str | None = None
    before: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        values = [self.image, self.person, self.before]
        if sum(value is not None for value in values) != 1:
            raise ValueError("say what to forget: one of `image`, `person` and `before`")
        if not (self.image or self.person or self.before or "").strip():
            raise ValueError(f"`{self.kind}` is empty: expected what to forget")
        if self.person is not None and re.fullmatch(r"-1|\+?0+|-0+", self.person.strip()):
            raise ValueError(
                f"`person` {self.person.strip()} is nobody in particular: give `image` for one "
                "image, or `person=distractors` (names that begin with 0), or `person=junk` (-1)"
            )
        if self.before is not None:
            _check_past_day(self.before)

    @property
    def kind(self) -> str:
        """Return the kind of the deletion: `image`, `person` or `before`."""
        return next(k for k in ("image", "person", "before") if getattr(self, k) is not None)


def _check_past_day(text: str) -> None:
    """Check that a text is a day in the form 2026-11-21, and not in the future.

    Raises:
        ValueError: the text is another one.
    """
    today = datetime.now(UTC).date()
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None
    except ValueError:
        day = None
    if day is None:
        raise ValueError(f"`before` is {text!r}: expected a day such as 2026-11-21")
    if day > today:
        raise ValueError(
            f"`before` is {text}, which is yet to come: days are those of UTC, where it is "
            f"{today}; give this day or an earlier one"
        )


_SUBJECTS = (("ranking", "attributes"), ("query_features",), ("model",))
"""Fields that name what is evaluated; those of one subject go together."""

_PAIRS = (
    ("attributes", "attributes_truth"),
    ("query_features", "gallery_features"),
    ("model", "data"),
)
"""Fields that need each other."""

_COMPANIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("truth", "gallery"), ("ranking",)),
    **dict.fromkeys(("output", "max_rank"), ("ranking", "query_features", "model")),
    "protocol": ("query_features", "model", "gallery"),
    **dict.fromkeys(
        (
            *("metric", "ap_rule", "unmatched", "rerank"),
            *("false_accept_rate", "distractor_scores"),
        ),
        ("query_features", "model"),
    ),
    "follow_links": ("model", "gallery"),
    **dict.fromkeys(
        (
            *("layout", "root", "max_bad", "num_workers", "use_gpu", "stall_timeout"),
            *("precision", "flip"),
        ),
        ("model",),
    ),
}
"""Fields that make sense only with one of others."""


def _join(names: Sequence[str], separator: str) -> str:
    return separator.join(f"`{name}`" for name in names)


def check_embedding(max_bad: float, num_workers: int | None, stall_timeout: float) -> None:
    """Check the fields that every job that embeds has.

    Raises:
        ValueError: a field is out of its range.
    """
    if not 0 < stall_timeout < math.inf:
        raise ValueError("`stall_timeout` must be above 0 minutes")
    if not 0 <= max_bad <= 1:
        raise ValueError("`max_bad` must lie in 0..1")
    if num_workers is not None and num_workers < 1:
        raise ValueError("`num_workers` must be 1 or more")
