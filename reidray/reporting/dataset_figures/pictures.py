"""Choose the images of a data set that a page shows, and encode them for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reidray.config import AugmentConfig
from reidray.data.augmentations import (
    augment,
    augmentations_on,
    image_crops,
    image_tensor,
    plan_augmentation,
)
from reidray.reporting.dataset_figures.image_quality import measure_quality

Indices = NDArray[np.int64]

MAX_SIDE = 192
"""Longest side of a picture in pixels; larger crops are reduced, which keeps a page small."""

ROWS, IMAGES_PER_ROW = 4, 8
MEASURED_IMAGES = 1000
"""Images whose quality is measured, at most."""

AUGMENTED_CROPS, COPIES = 4, 5


@dataclass(frozen=True)
class Picture:
    """Show an image.

    Attributes:
        uri: `data:` URI of the image.
        name: path of the image, or a description.
        caption: text below the image.
    """

    uri: str
    name: str
    caption: str = ""


@dataclass(frozen=True)
class PictureRow:
    """Show images below a title."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class PictureSection:
    """Show rows of images in a section of a page.

    Attributes:
        title: heading of the section.
        text: what the images are, and how they were chosen.
        rows: the images.
    """

    title: str
    text: str
    rows: tuple[PictureRow, ...]


@dataclass(frozen=True)
class ImageSource:
    """Read the images of a data set by their indices, and name them.

    Attributes:
        read: return the crops of M indices, (M, H, W, 3) uint8.
        name: return the path of the image of an index.
    """

    read: Callable[[Indices], NDArray[np.uint8]]
    name: Callable[[int], str]

    def pictures(self, indices: Indices, captions: Sequence[str] = ()) -> list[Picture]:
        """Return the pictures of some images, with their captions where given."""
        texts = captions or [""] * len(indices)
        rows = zip(self.read(indices), indices.tolist(), texts, strict=True)
        return [make_picture(crop, self.name(index), text) for crop, index, text in rows]


def make_picture(crop: NDArray[np.uint8], name: str, caption: str = "") -> Picture:
    """Encode a crop, (H, W, 3) uint8, as a picture of at most `MAX_SIDE` pixels a side."""
    from reidray.reporting.charts.encoding import crop_data_uri  # imports Matplotlib

    image = Image.fromarray(crop)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return Picture(crop_data_uri(np.asarray(image)), name, caption)


def group_images(indices: Indices, labels: NDArray[np.int64]) -> dict[int, Indices]:
    """Return the indices of the images of each label; labels below 0 are unknown.

    Args:
        indices: (N,) int64, the indices of the images.
        labels: (N,) int64, the person or the class in each image.
    """
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    parts = np.split(indices[order], starts)[1:]  # the first ends where the first label begins
    return {int(label): part for label, part in zip(found, parts, strict=True) if label >= 0}


def sample_rows(
    source: ImageSource, groups: Mapping[str, Indices], seed: int
) -> tuple[PictureRow, ...]:
    """Return a row of random images of each of a few random groups.

    Args:
        source: the images.
        groups: indices of the images of each group by its name; groups of one image are left out.
        seed: seed of the choice.
    """
    random = np.random.default_rng(seed)
    names = [name for name, members in groups.items() if len(members) > 1]
    chosen = sorted(random.permutation(len(names))[:ROWS].tolist())
    drawn = [np.sort(random.permutation(groups[names[n]])[:IMAGES_PER_ROW]) for n in chosen]
    if not drawn:
        return ()
    pictures = iter(source.pictures(np.concatenate(drawn)))
    return tuple(
        PictureRow(
            f"{names[number]}: {len(members)} of {len(groups[names[number]]):,} images",
            tuple(next(pictures) for _ in members),
        )
        for number, members in zip(chosen, drawn, strict=True)
    )


def poor_section(source: ImageSource, indices: Indices, seed: int) -> PictureSection:
    """Show the darkest, the brightest, the flattest and the least sharp of some images.

    Args:
        source: the images.
        indices: (N,) int64, the images; of many, `MEASURED_IMAGES` are drawn at random.
        seed: seed of the choice.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(indices)[:MEASURED_IMAGES])
    crops = source.read(drawn)
    quality = measure_quality(crops)
    ranked = (
        ("Darkest", "brightness", quality.brightness, 1),
        ("Brightest", "brightness", quality.brightness, -1),
        ("Least contrast", "contrast", quality.contrast, 1),
        ("Least sharp", "sharpness", quality.sharpness, 1),
    )
    rows = [
        PictureRow(
            title,
            tuple(
                make_picture(
                    crops[place],
                    source.name(int(drawn[place])),
                    f"{measure} {values[place]:.0f}, {source.name(int(drawn[place]))}",
                )
                for place in np.argsort(sign * values, kind="stable")[:IMAGES_PER_ROW].tolist()
            ),
        )
        for title, measure, values, sign in ranked
    ]
    measured = (
        f"{len(drawn):,} of the {len(indices):,} images, drawn at random, were measured."
        if len(drawn) < len(indices)
        else f"All {len(indices):,} images were measured."
    )
    return PictureSection(
        "Images that look poor",
        f"{measured} Brightness is the mean of the luminance (0 to 255), contrast its standard "
        "deviation, and sharpness the variance of its Laplacian.",
        tuple(rows),
    )


def augmented_rows(
    crops: NDArray[np.uint8], config: AugmentConfig, *, seed: int, fill: float
) -> tuple[PictureRow, ...]:
    """Return a row of each crop before augmentation and of `COPIES` copies after it.

    Args:
        crops: (N, H, W, 3) uint8; they also give the patches that the augmentation pastes.
        config: the augmentation of the training.
        seed: seed of the augmentation.
        fill: value in 0..255 of what comes in from outside and of what is erased.
    """
    before = image_tensor(crops, torch.device("cpu"))
    plan = plan_augmentation(config, len(crops) * COPIES, seed=seed, epoch=0, step=0)
    repeated = before.repeat_interleave(COPIES, dim=0)
    copies = image_crops(augment(repeated, plan, fill=fill, donors=before))
    return tuple(
        PictureRow(
            "",
            (
                make_picture(crop, "before augmentation", "before"),
                *(
                    make_picture(copy, "after augmentation", "after")
                    for copy in copies[number * COPIES : (number + 1) * COPIES]
                ),
            ),
        )
        for number, crop in enumerate(crops)
    )


def augmentation_section(
    source: ImageSource, indices: Indices, config: AugmentConfig, *, seed: int, fill: float
) -> PictureSection:
    """Show random images before and after the augmentation of a training.

    Args:
        source: the images.
        indices: (N,) int64, the training images.
        config: the augmentation of the training.
        seed: seed of the training, which also chooses the images.
        fill: value in 0..255 of what comes in from outside and of what is erased.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(indices)[:AUGMENTED_CROPS])
    strengths = augmentations_on(config).items()
    named = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in strengths) or "none"
    return PictureSection(
        "Samples before and after augmentation",
        f"Training images drawn at random, each with {COPIES} draws of the augmentation of the "
        f"configuration: {named}.",
        augmented_rows(source.read(drawn), config, seed=seed, fill=fill),
    )
