"""Show the images that pets networks learn from: their numbers, samples and augmentation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reidray.config import AugmentConfig, TrainMultitaskConfig
from reidray.data.augmentations import augmentations_on
from reidray.data.crop_labels import CropLabels
from reidray.data.images.decoding import decode_files
from reidray.data.manifest import Manifest
from reidray.errors import UserError
from reidray.models import LoadedModel
from reidray.reporting.dataset_figures.image_counts import ImageCounts, count_values
from reidray.reporting.dataset_figures.pictures import (
    ImageSource,
    Indices,
    PictureSection,
    augmentation_section,
    group_images,
    poor_section,
    sample_rows,
)
from reidray.studies.pets.training_runs import training_configs
from reidray.training.experiment import Labels
from reidray.training.tasks.multitask.definition import label_images
from reidray.training.tasks.multitask.report import SPLIT_NAMES
from reidray.training.tasks.multitask.task import FILL

SAMPLE_SIZE = (128, 128)
"""Height and width of the pictures that show no network's input, in pixels."""


@dataclass(frozen=True)
class DataFigures:
    """Hold the figures of the images.

    Attributes:
        counts: images of each class and split.
        note: who split off the validation images; empty where nobody did.
        sections: pictures of images; none where the page shows none.
    """

    counts: ImageCounts
    note: str
    sections: tuple[PictureSection, ...]


def image_source(images: Manifest, size: tuple[int, int]) -> ImageSource:
    """Return a source of the images of a manifest, by their rows.

    Args:
        images: the manifest.
        size: height and width of the crops in pixels.
    """
    paths = images.table["path"]

    def read(indices: Indices) -> NDArray[np.uint8]:
        names = [str(paths[index].as_py()) for index in indices.tolist()]
        return decode_files(images.files, names, size).crops

    return ImageSource(read, lambda index: str(paths[index].as_py()))


def build_data_figures(
    manifest: Manifest,
    images: Manifest,
    decoded: Indices,
    models: Mapping[str, LoadedModel],
    *,
    seed: int,
    shows_images: bool,
) -> DataFigures:
    """Count the images, and choose those that the page shows.

    Args:
        manifest: all images of the data.
        images: training and test images of known classes.
        decoded: the rows of `images` that decode.
        models: the networks by name.
        seed: seed of the choice.
        shows_images: whether the page shows images.
    """
    configs = training_configs(models)
    labels, note = _label_splits(manifest, configs)
    counts = count_values(
        "class",
        manifest.classes,
        {SPLIT_NAMES[split]: part.class_labels.astype(np.int64) for split, part in labels.items()},
    )
    if not shows_images:
        return DataFigures(counts, note, ())
    source = image_source(images, SAMPLE_SIZE)
    train = CropLabels.from_manifest(images, "train")
    train = train.take(np.isin(train.indices, decoded))
    sections = [poor_section(source, np.sort(decoded), seed)]
    if len(train):
        groups = group_images(train.indices, train.class_labels.astype(np.int64))
        rows = sample_rows(
            source, {train.classes[label]: members for label, members in groups.items()}, seed
        )
        text = f"Training images of {len(rows)} of {len(groups)} classes, drawn at random."
        sections.insert(0, PictureSection("Variability within a class", text, rows))
        sections += _augmentation_sections(images, train.indices, configs, models)
    return DataFigures(counts, note, tuple(sections))


def _augmentation_sections(
    images: Manifest,
    train: Indices,
    configs: Mapping[str, TrainMultitaskConfig],
    models: Mapping[str, LoadedModel],
) -> list[PictureSection]:
    """Return a section for each augmentation and input size of the networks' trainings.

    Args:
        images: training and test images of known classes.
        train: the rows of the training images that decode.
        configs: the configuration of the training of each network.
        models: the networks by name.
    """
    alike: dict[tuple[AugmentConfig, tuple[int, int]], list[str]] = {}
    for name, config in configs.items():
        alike.setdefault((config.augment, models[name].architecture.size), []).append(name)
    sections = []
    for (augment, size), names in alike.items():
        title = f"Before and after augmentation: {', '.join(names)}"
        if not augmentations_on(augment):
            sections.append(PictureSection(title, "The training augments no images.", ()))
            continue
        seed = configs[names[0]].seed
        source = image_source(images, size)
        section = augmentation_section(source, train, augment, seed=seed, fill=FILL)
        sections.append(replace(section, title=title))
    return sections


def _label_splits(
    manifest: Manifest, configs: Mapping[str, TrainMultitaskConfig]
) -> tuple[Labels, str]:
    """Return the labels of each split as the first network's training has them, and a note."""

    def split_of(config: TrainMultitaskConfig) -> tuple[object, ...]:
        return config.val_fraction, config.split_seed, config.split_order

    for config in configs.values():
        try:
            _, labels = label_images(config, manifest)
        except UserError:  # a class has too few images to split
            continue
        alike = [name for name, each in configs.items() if split_of(each) == split_of(config)]
        return labels, f"Validation images as the training of {' and '.join(alike)} split them off."
    parts = {split: CropLabels.from_manifest(manifest, split) for split in ("train", "gallery")}
    return {split: part for split, part in parts.items() if len(part)}, ""
