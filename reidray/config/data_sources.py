"""Pair the data sets of a job with their layouts."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

OneOrMore: TypeAlias = str | tuple[str, ...]
"""A value, or several: a flag takes them one after the other, and a YAML file as a list."""


class DataSource(NamedTuple):
    """Hold one of the data sets of a job.

    Attributes:
        data: folder or s3:// URI of the images, or a CSV or Parquet manifest.
        layout: layout of the data; auto recognises it.
    """

    data: str
    layout: str


def as_tuple(values: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or more values as a tuple."""
    return (values,) if isinstance(values, str) else tuple(values)


def one_or_more(values: OneOrMore | None) -> OneOrMore | None:
    """Return a single value out of a tuple of one, so that both mean the same."""
    return values[0] if isinstance(values, tuple) and len(values) == 1 else values


def join_values(values: str | Sequence[str]) -> str:
    """Return one or more values as a text, separated by commas."""
    return ", ".join(as_tuple(values))


def check_sources(config: Any) -> None:
    """Check the fields `data`, `layout` and `root` of a frozen configuration, while it is made.

    A tuple of one value becomes this value, so that `[A]` means the same as `A`.

    Raises:
        ValueError: there are more or fewer layouts than sets, or several sets with one root.
    """
    for name in ("data", "layout"):
        object.__setattr__(config, name, one_or_more(getattr(config, name)))
    if config.data is None:
        return
    sources = pair_sources(config.data, config.layout or "auto")
    if len(sources) > 1 and config.root is not None:
        raise ValueError(
            f"`root` goes with one manifest and `data` names {len(sources)} sets: leave it out, "
            "and write the root of each manifest into its metadata"
        )


def pair_sources(
    data: str | Sequence[str], layout: str | Sequence[str] = "auto"
) -> tuple[DataSource, ...]:
    """Return each data set with its layout.

    >>> pair_sources(("market", "duke"), "auto")
    (DataSource(data='market', layout='auto'), DataSource(data='duke', layout='auto'))

    Args:
        data: one or more data sets.
        layout: one layout for all sets, or one for each.

    Raises:
        ValueError: there is no data set, or the layouts are as many as neither.
    """
    sets, layouts = as_tuple(data), as_tuple(layout)
    if not sets:
        raise ValueError("`data` is an empty list: name a folder or a manifest")
    if len(layouts) == 1:
        layouts *= len(sets)
    if len(layouts) != len(sets):
        raise ValueError(
            f"`layout` has {len(layouts)} values and `data` {len(sets)}: give one layout for all "
            "sets, or one for each, such as auto"
        )
    return tuple(map(DataSource, sets, layouts))
