"""Count the images of a data set by person, camera, class and attribute, for a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from reidray.reporting.charts.encoding import Chart


@dataclass(frozen=True)
class PeopleOfSet:
    """Count the images of the people of a set.

    Attributes:
        name: name of the set.
        images: number of its images.
        people: number of its people.
        fewest: images of the person with the fewest.
        mean: images of a person, mean over the people.
        most: images of the person with the most.
        cameras: number of known cameras.
    """

    name: str
    images: int
    people: int
    fewest: int
    mean: float
    most: int
    cameras: int


@dataclass(frozen=True)
class ValueCounts:
    """Count the images of each value of a label in each set.

    Attributes:
        label: name of the label, such as `class` or an attribute.
        values: names of its values.
        counts: number of images of each value, by the name of the set.
    """

    label: str
    values: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ImageCounts:
    """Hold the counts of the images of several sets.

    Attributes:
        people: counts of the people of each set; empty where nobody is known.
        labels: counts of each label; empty without labels.
        charts: charts of the counts.
    """

    people: tuple[PeopleOfSet, ...] = ()
    labels: tuple[ValueCounts, ...] = ()
    charts: "tuple[Chart, ...]" = ()

    def __add__(self, other: "ImageCounts") -> "ImageCounts":
        """Return the counts of both."""
        return ImageCounts(
            self.people + other.people, self.labels + other.labels, self.charts + other.charts
        )


def count_people(
    person_ids: Mapping[str, NDArray[np.int64]],
    camera_ids: Mapping[str, NDArray[np.int64]],
) -> ImageCounts:
    """Count the images of each person and each camera of several sets.

    Args:
        person_ids: (N,) int64 for each set by its name, the person in each image; 0 and below are
            nobody known. A set without a known person is left out.
        camera_ids: (N,) int64 for each set by its name, below 0 where unknown.
    """
    from reidray.reporting.charts.count_charts import count_bars, count_histogram

    images_per_person = {
        name: np.unique(ids[ids > 0], return_counts=True)[1].astype(np.int64)
        for name, ids in person_ids.items()
        if (ids > 0).any()
    }
    if not images_per_person:
        return ImageCounts()
    charts = [count_histogram("Images per person", "Images of a person", images_per_person)]
    cameras = {name: camera_ids[name][camera_ids[name] >= 0] for name in images_per_person}
    known = np.unique(np.concatenate(list(cameras.values())))
    if len(known):
        per_camera = {
            name: [int((ids == camera).sum()) for camera in known] for name, ids in cameras.items()
        }
        names = [f"camera {camera}" for camera in known]
        charts.append(count_bars("Images per camera", names, per_camera, "cameras"))
    people = tuple(
        PeopleOfSet(
            name=name,
            images=len(person_ids[name]),
            people=len(counts),
            fewest=int(counts.min()),
            mean=float(counts.mean()),
            most=int(counts.max()),
            cameras=len(np.unique(cameras[name])),
        )
        for name, counts in images_per_person.items()
    )
    return ImageCounts(people=people, charts=tuple(charts))


def count_values(
    label: str,
    values: Sequence[str],
    labels: Mapping[str, NDArray[np.int64]],
    *,
    draws_chart: bool = True,
) -> ImageCounts:
    """Count the images of each value of a label, such as a class, of several sets.

    Args:
        label: name of the label.
        values: names of its values.
        labels: (N,) int64 for each set by its name, the index of the value of each image; below 0
            where unknown.
        draws_chart: whether a chart shows the counts.
    """
    from reidray.reporting.charts.count_charts import count_bars

    counts = {
        name: tuple(np.bincount(known[known >= 0], minlength=len(values)).tolist())
        for name, known in labels.items()
    }
    found = ImageCounts(labels=(ValueCounts(label, tuple(values), counts),))
    if not draws_chart:
        return found
    title = f"Images per {label.replace('_', ' ')}"
    return found + ImageCounts(charts=(count_bars(title, values, counts, f"images-{label}"),))
