"""What page and card both say of a model: its figures, for whom it is worse, and its data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FEW_QUERIES = 50


@dataclass(frozen=True)
class DataSummary:
    """The images a run was trained and validated on.

    Attributes:
        root: folder or URI of the images.
        layout: which layout read them.
        train_images: images trained on.
        train_people: people in them.
        val_images: images of the people kept for validation.
        val_people: people in them; none of them is trained on.
        cameras: how many cameras are known; 0 where none is.
        bad_images: images that did not decode and were set aside, one line each.
        notes: findings that were counted and gone on with, one line each.
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


@dataclass(frozen=True)
class Headline:
    """One figure of a validation, with what it means.

    Attributes:
        name: as people call it.
        value: share in 0..1.
        meaning: half a sentence.
    """

    name: str
    value: float
    meaning: str


_HEADLINES = (
    ("mean_ap", "mAP", "average precision, mean over the queries"),
    ("rank1", "Rank-1", "queries whose first image is of the same person"),
    ("rank5", "Rank-5", "queries with the same person among the first 5"),
    ("rank10", "Rank-10", "queries with the same person among the first 10"),
    ("mean_inp", "mINP", "precision at the last correct image, mean over the queries"),
    ("attribute_accuracy", "Attribute accuracy", "images named rightly, mean over the attributes"),
    ("attribute_majority", "Majority guess", "accuracy of always naming the commonest value"),
)


def describe_epoch(epoch: int, planned: int, record: dict[str, Any]) -> str:
    """Return an epoch of so many, and how much of it was trained where time ended it.

    Args:
        epoch: from 1.
        planned: epochs that were asked for.
        record: figures of the epoch; `epoch_share`, in 0..1, is there where it ended early.
    """
    share = record.get("epoch_share")
    part = "" if share is None else f", {share:.0%} of it"
    return f"{epoch} of {planned}{part}"


def describe_epochs(planned: int, records: Sequence[dict[str, Any]]) -> str:
    """Return how many epochs were trained of those that were asked for.

    Args:
        planned: epochs that were asked for.
        records: one of each epoch; the last may have ended early.
    """
    trained = sum(record.get("epoch_share", 1.0) for record in records)
    return f"{trained:.2f}".rstrip("0").rstrip(".") + f" of {planned} epochs"


def headlines(figures: dict[str, Any]) -> list[Headline]:
    """The figures of a validation that one line each can say, as far as it has them."""
    return [
        Headline(name, figures[key], meaning) for key, name, meaning in _HEADLINES if key in figures
    ]


def weak_attributes(figures: dict[str, Any]) -> list[str]:
    """Names of the attributes that are named no better than by always guessing the commonest."""
    return [
        name
        for name, entry in figures.get("attributes", {}).items()
        if entry["accuracy"] <= entry["majority"]
    ]


def small_group_note(groups: list[dict[str, Any]]) -> str:
    """What a reader must know of groups with few queries; empty where all groups are large."""
    smallest = min(groups, key=lambda group: int(group["queries"]), default=None)
    if smallest is None or smallest["queries"] >= FEW_QUERIES:
        return ""
    queries = smallest["queries"]
    counted = "1 query" if queries == 1 else f"{queries} queries"
    return (
        f"Groups with fewer than {FEW_QUERIES} queries say little: in the smallest, "
        f"{smallest['group']} with {counted}, a single query moves Rank-1 by "
        f"{100 / queries:.1f} points."
    )
