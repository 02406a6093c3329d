"""Collect what the page of a training shows of its images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reidray.config import AugmentConfig
from reidray.data.crop_labels import CropLabels
from reidray.reporting.dataset_figures.image_counts import (
    ImageCounts,
    count_people,
    count_values,
)
from reidray.reporting.dataset_figures.pictures import (
    ImageSource,
    Indices,
    PictureSection,
    augmentation_section,
    group_images,
    poor_section,
    sample_rows,
)


@dataclass(frozen=True)
class DatasetFigures:
    """Hold what the page of a training shows of its images.

    Attributes:
        counts: counts of the images of each set.
        sections: sections of pictures; empty where the page shows none.
        shows_people: whether the pictures show people.
    """

    counts: ImageCounts
    sections: tuple[PictureSection, ...] = ()
    shows_people: bool = False


@dataclass(frozen=True)
class ImageGroups:
    """Hold groups of images, within which a page shows how much the images vary.

    Attributes:
        title: heading of the section.
        text: what the groups are.
        members: indices of the images of each group, by the name of the group.
    """

    title: str
    text: str
    members: Mapping[str, Indices]


def count_images(sets: Mapping[str, CropLabels]) -> ImageCounts:
    """Count the images of sets by person, camera, and class or attribute, where these are known.

    Args:
        sets: labels of the images of each set by its name.
    """
    found = count_people(
        {name: labels.person_ids for name, labels in sets.items()},
        {name: labels.camera_ids.astype(np.int64) for name, labels in sets.items()},
    )
    first = next(iter(sets.values()))
    for column, (label, values) in enumerate(first.target_values.items()):
        by_set = {name: labels.targets[:, column].astype(np.int64) for name, labels in sets.items()}
        if any((each >= 0).any() for each in by_set.values()):
            found += count_values(label, values, by_set, draws_chart=bool(first.classes))
    return found


def group_by_person(labels: CropLabels, person_ids: Mapping[str, int]) -> ImageGroups:
    """Return the images of each person.

    Args:
        labels: labels of the images.
        person_ids: the number of each person's name, if people have names; else empty.
    """
    names = {number: name for name, number in person_ids.items()}
    people = group_images(labels.indices, labels.person_ids)
    return ImageGroups(
        "Variability within a person",
        "Random training images of people drawn at random.",
        {
            f"Person {names.get(person, person)}": members
            for person, members in people.items()
            if person > 0
        },
    )


def group_by_target(labels: CropLabels) -> ImageGroups:
    """Return the images of each class, or else of each value of each attribute."""
    members = {
        (values[value] if labels.classes else f"{name.replace('_', ' ')}: {values[value]}"): each
        for column, (name, values) in enumerate(labels.target_values.items())
        for value, each in group_images(
            labels.indices, labels.targets[:, column].astype(np.int64)
        ).items()
    }
    kind = "a class" if labels.classes else "the value of an attribute"
    drawn = "classes" if labels.classes else "values of attributes"
    return ImageGroups(
        f"Variability within {kind}", f"Random training images of {drawn} drawn at random.", members
    )


def sample_sections(
    source: ImageSource,
    train: CropLabels,
    groups: ImageGroups,
    config: AugmentConfig,
    *,
    seed: int,
    fill: float,
) -> tuple[PictureSection, ...]:
    """Show training images: of a few groups, before and after augmentation, and poor ones.

    Args:
        source: the images.
        train: labels of the training images.
        groups: groups of the training images.
        config: the augmentation of the training.
        seed: seed of the training, which also chooses the images.
        fill: value in 0..255 of what the augmentation brings in from outside or erases.
    """
    variability = PictureSection(
        groups.title, groups.text, sample_rows(source, groups.members, seed)
    )
    return (
        *([variability] if variability.rows else []),
        augmentation_section(source, train.indices, config, seed=seed, fill=fill),
        poor_section(source, train.indices, seed),
    )
