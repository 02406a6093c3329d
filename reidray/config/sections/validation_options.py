"""Configure validation, and register the metrics that can choose the best epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from reidray.config.sections.limits import require
from reidray.config.sections.loss_options import TrainingKind
from reidray.config.sections.section import ConfigSection
from reidray.registry import Registry
from reidray.suggestions import quoted, suggest_name

Function = TypeVar("Function", bound=Callable[[Any], float])


class ValidationMetric(NamedTuple):
    """Hold a metric of validation, by which the best epoch may be chosen.

    Attributes:
        trainings: the kinds of training that compute the metric.
        higher_is_better: whether the best epoch is that of the highest value.
        compute: computes the metric from the evaluation of a validation; None for a metric that
            every such evaluation holds.
    """

    trainings: tuple[TrainingKind, ...]
    higher_is_better: bool
    compute: Callable[[Any], float] | None = None


VALIDATION_METRICS: Registry[ValidationMetric] = Registry("metric", "reidray.metrics")
"""The metrics of validation by name."""


def register_metric(
    name: str, *, training: TrainingKind = "reid", higher_is_better: bool = True
) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as a metric of validation.

    The function takes the `RankingMetrics` of the validation people, or the `LabelEvaluation` of a
    multi-task training, and returns the metric, which metrics.jsonl holds under its name.

    Args:
        name: name of the metric.
        training: the kind of training that computes the metric.
        higher_is_better: whether the best epoch is that of the highest value.
    """

    def decorate(compute: Function) -> Function:
        metric = ValidationMetric((training,), higher_is_better, compute)
        VALIDATION_METRICS.add(name, metric, origin=compute)
        return compute

    return decorate


def registered_metric_names(training: TrainingKind) -> list[str]:
    """Return the names of the metrics that `register_metric` added for a kind of training."""
    metrics = VALIDATION_METRICS.registered
    return [
        name
        for name, metric in metrics.items()
        if metric.compute is not None and training in metric.trainings
    ]


def compute_registered_metrics(evaluation: Any, training: TrainingKind) -> dict[str, float]:
    """Return the metrics that `register_metric` added for a kind of training, by name.

    Args:
        evaluation: the evaluation of a validation.
        training: the kind of training.
    """
    found = {}
    for name in registered_metric_names(training):
        compute = VALIDATION_METRICS.get(name).compute
        if compute is not None:
            found[name] = float(compute(evaluation))
    return found


for _name in ("mean_ap", "rank1"):
    VALIDATION_METRICS.add(_name, ValidationMetric(("reid",), higher_is_better=True))
VALIDATION_METRICS.add("validation_loss", ValidationMetric(("multitask",), higher_is_better=False))
for _name in ("accuracy", "macro_f1", "mask_f1", "mask_iou"):
    VALIDATION_METRICS.add(_name, ValidationMetric(("multitask",), higher_is_better=True))
VALIDATION_METRICS.add(
    "attribute_accuracy", ValidationMetric(("reid", "multitask"), higher_is_better=True)
)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(ConfigSection):
    """Set the validation of a model on images that it does not train on.

    Attributes:
        every: epochs from one validation to the next.
        select_by: metric that chooses the best epoch.
        patience: validations without a better value before training stops; 0 never stops.
    """

    TRAINING: ClassVar[TrainingKind] = "multitask"

    every: int = 1
    select_by: str = "validation_loss"
    patience: int = 0

    def __post_init__(self) -> None:
        require(self.every >= 1, "`validation.every` must be 1 or more")
        require(self.patience >= 0, "`validation.patience` must be 0 or more")
        check_metric_name(self.select_by, self.TRAINING)

    @property
    def mode(self) -> Literal["max", "min"]:
        """Return "max" where a higher value of the metric is better, and "min" for a loss."""
        return "max" if VALIDATION_METRICS.get(self.select_by).higher_is_better else "min"

    def score(self, value: float) -> float:
        """Return a value of the metric, negated for a loss, so that the higher score is better.

        The score of a value that is not finite is minus infinity.
        """
        if not isfinite(value):
            return -inf
        return value if self.mode == "max" else -value

    def is_better(self, value: float, best: float) -> bool:
        """Return whether a value of the metric improves on the best one so far."""
        return self.score(value) > self.score(best)


@dataclass(frozen=True, kw_only=True)
class ReidValidationConfig(ValidationConfig):
    """Set the validation of a model on people that it does not train on.

    Attributes:
        every: epochs from one validation to the next.
        select_by: metric that chooses the best epoch: mean_ap, rank1, attribute_accuracy or a
            registered one.
        patience: validations without a better value before training stops; 0 never stops.
        metric: distance between embeddings; scoring uses the same by default.
        protocol: rules of the ranking, as in the job evaluate and with the same default.
        num_queries: number of random queries, each ranked against all other validation images, in
            each data set; by default the first image of each person in each camera is a query, and
            the others are ranked. The queries are the same in every epoch and for every seed.
        top_k: number of the nearest images whose matches mean_ap counts; by default all.
    """

    TRAINING: ClassVar[TrainingKind] = "reid"

    select_by: str = "mean_ap"
    metric: Literal["cosine", "euclidean"] = "cosine"
    protocol: Literal["market1501", "cuhk03", "all"] | None = None
    num_queries: int | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_queries", "top_k"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"`validation.{name}` must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class MultitaskValidationConfig(ValidationConfig):
    """Set the validation of a model on images that it does not train on.

    Attributes:
        every: epochs from one validation to the next.
        select_by: metric that chooses the best epoch: validation_loss, accuracy, macro_f1, mask_f1,
            mask_iou, attribute_accuracy or a registered one.
        patience: validations without a better value before training stops; 0 never stops.
    """


def check_metric_name(name: str, training: TrainingKind) -> None:
    """Refuse a metric that a kind of training does not compute.

    Raises:
        ValueError: the message suggests a metric.
    """
    if name in VALIDATION_METRICS and training in VALIDATION_METRICS.get(name).trainings:
        return
    metrics = VALIDATION_METRICS.registered
    names = [each for each, metric in metrics.items() if training in metric.trainings]
    raise ValueError(f"`validation.select_by` {quoted(name)}: {suggest_name(name, names)}")
