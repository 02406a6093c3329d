"""What the scoring, evaluation and forgetting jobs may be told."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Literal

Metric = Literal["euclidean", "cosine"]
STALL_MINUTES = 15.0
MAX_RANKS = 1_000_000
"""Of a match curve."""

ProtocolName = Literal["market1501", "all", "single_shot", "cuhk03"]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """A night's scoring.

    Attributes:
        model: model directory, RUN/model of a training run.
        queries: folder or s3:// URI of the query images.
        gallery: folder or s3:// URI of the gallery images.
        output: folder or s3:// URI to write; an earlier night's is replaced in one step.
        store: folder or s3:// URI where embeddings are kept, so that the next night embeds only
            what is new; by default none is kept.
        full: embed every image anew, and replace what the store holds of this model.
        follow_links: read images that links out of either folder lead to.
        top_k: gallery images to name for each query.
        metric: distance between embeddings; by default the one the model was validated with.
        max_distance: images farther from a query than this are not named, so that a query of
            somebody unknown has none; jobs/evaluate.py --false-accept-rate finds a good one.
        distractor_scores: also write distractors.csv: for each gallery image two scores that rise
            with the likelihood that it shows no person.
        max_distractor_score: gallery images with a higher distractor_score are not ranked; the time
            to score grows with the square of the gallery.
        max_bad: share of the images of either folder that may fail to decode.
        keep_missing: give a gallery image that does not decode a row of -1 among the attributes.
        num_workers: embedding processes; by default one for each GPU, or each CPU.
        use_gpu: auto takes GPUs where the cluster has them.
        stall_timeout: minutes without an answer after which an embedding process is started again,
            on another machine where there is one; at the fifth time the job ends.
    """

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
    distractor_scores: bool = False
    max_distractor_score: float | None = None
    max_bad: float = 0.01
    keep_missing: bool = False
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    stall_timeout: float = STALL_MINUTES

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError("top-k must be 1 or more")
        for name in ("max_distance", "max_distractor_score"):
            if math.isnan(getattr(self, name) or 0):
                raise ValueError(f"{name.replace('_', '-')} must be a number")
        _check_shared(self.max_bad, self.num_workers, self.stall_timeout)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a ranking, attributes, two files of features, or a model on a labelled set.

    Attributes:
        ranking: reid_test.txt to judge, with truth or gallery.
        truth: which gallery names are correct for each query: a JSON object, query name to a list
            of names, or lines of the form of a ranking.
        gallery: in place of truth, the gallery whose file names tell person and camera.
        attributes: classification_test.csv to judge.
        attributes_truth: file of the same form that holds the right answers.
        query_features: .npz or .parquet file of the queries' features, with gallery_features.
        gallery_features: such a file of the gallery's.
        model: model directory to judge, with data.
        data: folder or s3:// URI of a set with query and gallery, or a CSV or Parquet manifest.
        output: folder or s3:// URI for the figures, a table of the queries and a plot of the CMC.
        max_rank: length of the CMC that output holds.
        protocol: market1501 leaves out what the query's own camera saw, cuhk03 also draws one
            image per person, single_shot has one image per person, all leaves nothing out; by
            default single_shot where the gallery has one image per person, else market1501 where
            every image has a camera and a query a match in another one, else all. A truth file
            says itself what is right.
        metric: distance between features; by default the one the model was validated with, and
            euclidean for feature files.
        ap_rule: average precision by the standard rule, which is the default, or by the older
            trapezoid rule.
        unmatched: skip, the default, leaves queries without a match out; zero counts them as 0.
        rerank: re-rank by k-reciprocal neighbours before judging.
        false_accept_rate: also find the distance within which a query of somebody who is not in
            the gallery is given a name this often, and how often the right person then is.
        distractor_scores: also say how well the scores of score_nightly's distractors.csv tell
            distractors (person 0) and junk (person -1) from people; takes as long as to rank the
            gallery for each of its own images.
        layout: how the data is laid out; auto recognises it.
        root: folder or s3:// URI where the paths of a manifest begin; by default the one that its
            metadata name, or its own folder.
        follow_links: read images that links out of the data, or the gallery, lead to.
        max_bad: share of the images of either split that may fail to decode.
        num_workers: embedding processes; by default one for each GPU, or each CPU.
        use_gpu: auto takes GPUs where the cluster has them.
        stall_timeout: minutes without an answer after which an embedding process is started again,
            on another machine where there is one; at the fifth time the job ends.
    """

    ranking: str | None = None
    truth: str | None = None
    gallery: str | None = None
    attributes: str | None = None
    attributes_truth: str | None = None
    query_features: str | None = None
    gallery_features: str | None = None
    model: str | None = None
    data: str | None = None
    output: str | None = None
    max_rank: int = 50
    protocol: ProtocolName | None = None
    metric: Literal["euclidean", "cosine", "l1"] | None = None
    ap_rule: Literal["standard", "trapezoid"] | None = None
    unmatched: Literal["skip", "zero"] | None = None
    rerank: bool = False
    false_accept_rate: float | None = None
    distractor_scores: bool = False
    layout: str = "auto"
    root: str | None = None
    follow_links: bool = False
    max_bad: float = 0.01
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    stall_timeout: float = STALL_MINUTES

    def __post_init__(self) -> None:
        _check_shared(self.max_bad, self.num_workers, self.stall_timeout)
        if not 1 <= self.max_rank <= MAX_RANKS:
            raise ValueError(f"max-rank must lie in 1..{MAX_RANKS}")
        if self.false_accept_rate is not None and not 0 <= self.false_accept_rate < 1:
            raise ValueError("false-accept-rate must be 0 or more, and less than 1")
        given = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        for pair in _TOGETHER:
            if len(given & set(pair)) == 1:
                raise ValueError(f"{_flags(pair, 'and')} belong together: give both")
        if "ranking" in given and len(given & {"truth", "gallery"}) != 1:
            raise ValueError("a ranking needs one truth: give --ranking with --truth or --gallery")
        for option, companions in _GOES_WITH.items():
            if option in given and not given & set(companions):
                raise ValueError(
                    f"{_flags([option])} goes with {_flags(companions, 'or')}: give one, "
                    "or leave it out"
                )
        if sum(bool(given & set(judged)) for judged in _JUDGED) != 1:
            raise ValueError(
                "give one thing to judge: --ranking with --truth or --gallery, --attributes with "
                "--attributes-truth, --query-features with --gallery-features, or --model with "
                "--data"
            )


@dataclass(frozen=True, kw_only=True)
class ForgetConfig:
    """Delete embeddings for good: those of an image, of a person, or all made before a day.

    The images themselves, and files that name them, are not touched: delete these first, or the
    next night embeds them again.

    Attributes:
        store: folder or s3:// URI of the embeddings.
        image: name of an image, as the ranking has it, or its whole address. The same picture
            under other names is forgotten too.
        person: who is on the images: the number that their names begin with, as
            0002_c1s1_000451_03.jpg does, or the name or number of a folder they lie in, within the
            folder that was scored. A folder below others, which may be a camera's, is given with
            these, as people/2, or as a whole address. distractors and junk stand for the images
            whose names begin with 0 and with -1.
        before: a day, as 2026-11-21 (UTC); embeddings made on earlier days are deleted.
        dry_run: only say what would be deleted, and change nothing.
    """

    store: str
    image: str | None = None
    person: str | None = None
    before: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        given = [self.image, self.person, self.before]
        if sum(value is not None for value in given) != 1:
            raise ValueError("say what to forget: one of --image, --person and --before")
        if not (self.image or self.person or self.before or "").strip():
            raise ValueError(f"{self.kind} is empty: expected what to forget")
        if self.person is not None and re.fullmatch(r"-1|\+?0+|-0+", self.person.strip()):
            raise ValueError(
                f"person {self.person.strip()} is nobody in particular: give --image for one "
                "image, or --person distractors (names that begin with 0), or --person junk (-1)"
            )
        if self.before is not None:
            _check_past_day(self.before)

    @property
    def kind(self) -> str:
        """What is forgotten, without saying whose."""
        return next(k for k in ("image", "person", "before") if getattr(self, k) is not None)


def _check_past_day(text: str) -> None:
    """Refuse anything but a day as 2026-11-21, and days to come."""
    today = datetime.now(UTC).date()
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None
    except ValueError:
        day = None
    if day is None:
        raise ValueError(f"before is {text!r}: expected a day such as 2026-11-21")
    if day > today:
        raise ValueError(
            f"before is {text}, which is yet to come: days are those of UTC, where it is {today}; "
            "give this day or an earlier one"
        )


_JUDGED = (("ranking", "attributes"), ("query_features",), ("model",))
_TOGETHER = (
    ("attributes", "attributes_truth"),
    ("query_features", "gallery_features"),
    ("model", "data"),
)
_GOES_WITH: dict[str, tuple[str, ...]] = {
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
        ("layout", "root", "max_bad", "num_workers", "use_gpu", "stall_timeout"), ("model",)
    ),
}


def _flags(options: Sequence[str], joint: str = "") -> str:
    """Options as they are typed: `--model or --data`."""
    return f" {joint} ".join(f"--{option.replace('_', '-')}" for option in options)


def _check_shared(max_bad: float, num_workers: int | None, stall_timeout: float) -> None:
    if not 0 < stall_timeout < math.inf:
        raise ValueError("stall-timeout must be above 0 minutes")
    if not 0 <= max_bad <= 1:
        raise ValueError("max-bad must lie in 0..1")
    if num_workers is not None and num_workers < 1:
        raise ValueError("num-workers must be 1 or more")
