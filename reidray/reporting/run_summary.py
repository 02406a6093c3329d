"""Summarize the metrics, weaknesses and data of a training run for its report and model card."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FEW_QUERIES = 50
"""Number of queries below which the metrics of a group are marked as unreliable."""


@dataclass(frozen=True)
class DatasetCounts:
    """Count the images and people of one of several data sets that are joined.

    Attributes:
        name: name of the set.
        layout: name of its layout.
        train_images: number of its training images.
        train_people: number of people in its training images.
        val_images: number of its validation images.
        val_people: number of people in its validation images.
    """

    name: str
    layout: str
    train_images: int
    train_people: int
    val_images: int
    val_people: int


@dataclass(frozen=True)
class DataSummary:
    """Describe the images of a training run.

    Attributes:
        root: folder or URI of the images.
        layout: name of the layout.
        train_images: number of training images.
        train_people: number of people in the training images.
        val_images: number of validation images.
        val_people: number of people in the validation images; the training images show none of
            them.
        cameras: number of known cameras; 0 where none is known.
        bad_images: the images that did not decode, one line each.
        notes: irregularities in the data that did not stop the run, one line each.
        datasets: the data sets, where several are joined.
    """

    root: str
    layout: str
    train_images: int
    train_people: int
    val_images: int
    val_people: int
    cameras: int
    bad_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    datasets: tuple[DatasetCounts, ...] = ()


@dataclass(frozen=True)
class Headline:
    """Hold a metric of the validation with its definition.

    Attributes:
        name: the name of the metric.
        value: a share in 0..1.
        definition: the definition in a few words.
    """

    name: str
    value: float
    definition: str


_HEADLINES = (
    ("mean_ap", "mAP", "average precision, mean over the queries"),
    ("rank1", "Rank-1", "queries whose first ranked image shows the same person"),
    ("rank5", "Rank-5", "queries with an image of the same person among the first 5"),
    ("rank10", "Rank-10", "queries with an image of the same person among the first 10"),
    ("mean_inp", "mINP", "precision at the last correct image, mean over the queries"),
    (
        "attribute_accuracy",
        "Attribute accuracy",
        "images with a correct prediction, mean over the attributes",
    ),
    (
        "attribute_majority",
        "Majority guess",
        "accuracy of always predicting the most frequent value",
    ),
)


def describe_epoch(epoch: int, planned: int, record: dict[str, Any]) -> str:
    """Return the number of an epoch and the number of planned epochs, as `54 of 60`.

    Args:
        epoch: the number of the epoch, from 1.
        planned: the number of planned epochs.
        record: the metrics of the epoch. `epoch_share`, in 0..1, is the trained share of an epoch
            that the time budget ended.

    >>> describe_epoch(2, 60, {"epoch_share": 0.4})
    '2 of 60, 40% of it'
    """
    share = record.get("epoch_share")
    part = "" if share is None else f", {share:.0%} of it"
    return f"{epoch} of {planned}{part}"


def describe_epochs(planned: int, records: Sequence[dict[str, Any]]) -> str:
    """Return the numbers of trained and of planned epochs, as `1.4 of 60 epochs`.

    Args:
        planned: the number of planned epochs.
        records: the metrics of each epoch; the time budget may have ended the last one.

    >>> describe_epochs(60, [{}, {"epoch_share": 0.4}])
    '1.4 of 60 epochs'
    """
    trained = sum(record.get("epoch_share", 1.0) for record in records)
    return f"{trained:.2f}".rstrip("0").rstrip(".") + f" of {planned} epochs"


def headlines(metrics: dict[str, Any]) -> list[Headline]:
    """Return the main metrics of a validation, those that it has."""
    return [
        Headline(name, metrics[key], definition)
        for key, name, definition in _HEADLINES
        if key in metrics
    ]


def group_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the metrics of each group of people, with the difference from those of all.

    Where several data sets are joined, a group is of one set, and all are the queries of this set.

    Args:
        metrics: metrics of a validation.
    """
    rows = []
    for group in metrics.get("groups", []):
        dataset = group.get("dataset")
        whole = metrics["datasets"][dataset] if dataset else metrics
        name = f"{dataset}: {group['group']}" if dataset else group["group"]
        difference = group["mean_ap"] - whole["mean_ap"]
        rows.append(group | {"group": name, "difference": difference})
    return rows


def weak_attributes(metrics: dict[str, Any]) -> list[str]:
    """Return the attributes whose accuracy does not exceed that of the most frequent value."""
    return [
        name
        for name, entry in metrics.get("attributes", {}).items()
        if entry["accuracy"] <= entry["majority"]
    ]


def small_group_note(groups: list[dict[str, Any]]) -> str:
    """Return a warning about groups with few queries; empty where every group is large."""
    smallest = min(groups, key=lambda group: int(group["queries"]), default=None)
    if smallest is None or smallest["queries"] >= FEW_QUERIES:
        return ""
    queries = smallest["queries"]
    counted = "1 query" if queries == 1 else f"{queries} queries"
    return (
        f"Metrics of groups with fewer than {FEW_QUERIES} queries are unreliable: in the smallest "
        f"group, {smallest['group']} with {counted}, a single query changes Rank-1 by "
        f"{100 / queries:.1f} percentage points."
    )
