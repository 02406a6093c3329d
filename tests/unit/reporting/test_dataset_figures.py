"""Test what a page shows of the images of a data set."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from reidray.config import AugmentConfig
from reidray.reporting.dataset_figures.image_counts import count_people, count_values
from reidray.reporting.dataset_figures.pictures import (
    COPIES,
    MAX_SIDE,
    MEASURED_IMAGES,
    ImageSource,
    augmentation_section,
    augmented_rows,
    group_images,
    make_picture,
    poor_section,
    sample_rows,
)


def decode(picture):
    data = base64.b64decode(picture.uri.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def flat_crops(levels, side=32):
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in levels])


def source_of(crops, read_sizes=None):
    """Return a source of crops named by their index, which notes the sizes of the reads."""

    def read(indices):
        if read_sizes is not None:
            read_sizes.append(len(indices))
        return crops[indices]

    return ImageSource(read, lambda index: f"{index}.jpg")


def named(rows):
    return [[picture.name for picture in row.pictures] for row in rows]


def test_a_picture_is_the_crop_and_large_crops_are_reduced():
    small = make_picture(flat_crops([90])[0], "a.jpg", "dark")
    assert (small.name, small.caption) == ("a.jpg", "dark")
    assert decode(small).shape == (32, 32, 3)
    assert (decode(small) == 90).all()
    large = np.zeros((4 * MAX_SIDE, 2 * MAX_SIDE, 3), np.uint8)
    assert decode(make_picture(large, "b.jpg")).shape == (MAX_SIDE, MAX_SIDE // 2, 3)


def test_rows_show_random_images_of_groups_of_two_or_more():
    labels = np.repeat([0, 1, 2, -1], [30, 1, 4, 5])
    groups = {f"person {n}": each for n, each in group_images(np.arange(40), labels).items()}
    assert [*groups] == ["person 0", "person 1", "person 2"]
    source = source_of(flat_crops(range(40)))
    rows = sample_rows(source, groups, seed=3)
    assert [row.title for row in rows] == [
        "person 0: 8 of 30 images",
        "person 2: 4 of 4 images",
    ]
    shown = [int(name.removesuffix(".jpg")) for name in named(rows)[0]]
    assert shown == sorted(set(shown))
    assert max(shown) < 30
    assert named(rows)[1] == ["31.jpg", "32.jpg", "33.jpg", "34.jpg"]
    assert [decode(each)[0, 0, 0] for each in rows[1].pictures] == [31, 32, 33, 34]
    assert sample_rows(source, groups, seed=3) == rows
    assert sample_rows(source, groups, seed=4) != rows
    assert sample_rows(source, {"person 1": groups["person 1"]}, seed=0) == ()


def test_poor_images_are_the_extremes_of_the_measured_ones():
    random = np.random.default_rng(0)
    crops = random.integers(60, 200, (40, 32, 32, 3)).astype(np.uint8)
    crops[7] //= 8
    crops[9] = crops[9] // 16 + 240
    crops[11] = 128
    crops[13] = np.linspace(0, 255, 32)[:, None]  # a large contrast without edges
    section = poor_section(source_of(crops), np.arange(40), seed=0)
    first = {row.title: row.pictures[0] for row in section.rows}
    assert {title: each.name for title, each in first.items()} == {
        "Darkest": "7.jpg",
        "Brightest": "9.jpg",
        "Least contrast": "11.jpg",
        "Least sharp": "11.jpg",
    }
    assert section.rows[3].pictures[1].name == "13.jpg"
    assert first["Least contrast"].caption == "contrast 0, 11.jpg"
    assert section.text.startswith("All 40 images were measured.")


def test_a_page_reads_a_sample_of_a_large_data_set():
    crops = flat_crops(np.arange(MEASURED_IMAGES + 500) % 256, side=8)
    sizes = []
    section = poor_section(source_of(crops, sizes), np.arange(len(crops)), seed=0)
    assert sizes == [MEASURED_IMAGES]
    assert section.text.startswith("1,000 of the 1,500 images, drawn at random, were measured.")


def test_each_crop_is_shown_before_and_after_its_own_augmentations():
    crops = np.zeros((3, 32, 32, 3), np.uint8)
    crops[:, :, :16] = np.array([60, 120, 180])[:, None, None, None]
    rows = augmented_rows(crops, AugmentConfig(flip=0.5, shift=0.0), seed=0, fill=0.0)
    assert [len(row.pictures) for row in rows] == [1 + COPIES] * 3
    mirrored = 0
    for row, crop in zip(rows, crops, strict=True):
        before, *after = (decode(picture).astype(int) for picture in row.pictures)
        assert np.abs(before - crop).max() < 8
        for copy in after:
            is_mirrored = copy[:, 20:].mean() > copy[:, :12].mean()
            mirrored += is_mirrored
            assert np.abs(copy - (crop[:, ::-1] if is_mirrored else crop)).max() < 8
    assert 0 < mirrored < 3 * COPIES
    assert rows == augmented_rows(crops, AugmentConfig(flip=0.5, shift=0.0), seed=0, fill=0.0)


def test_the_augmentation_of_the_configuration_is_named():
    source, indices = source_of(flat_crops(range(10))), np.arange(10)
    config = AugmentConfig(flip=0.5, rotation=10, shift=0, random_patch=0.5)
    section = augmentation_section(source, indices, config, seed=0, fill=127.5)
    assert section.text.endswith("flip 0.5, rotation 10, random patch 0.5.")
    assert len(section.rows) == 4
    none = augmentation_section(source, indices, AugmentConfig(flip=0, shift=0), seed=0, fill=127.5)
    assert none.text.endswith("configuration: none.")
    assert {decode(each).mean() for each in none.rows[0].pictures} == {
        decode(none.rows[0].pictures[0]).mean()
    }


@pytest.mark.parametrize("cameras", [[1, 1, 2, -1, 2, 1], [-1] * 6])
def test_people_and_cameras_are_counted_per_set(cameras):
    people = {
        "training": np.array([4, 4, 4, 9, -1, 0]),
        "validation": np.array([7, 7]),
        "gallery": np.array([-1]),
    }
    found = count_people(
        people,
        {
            "training": np.array(cameras),
            "validation": np.array([-1, -1]),
            "gallery": np.array([1]),
        },
    )
    training, validation = found.people
    assert (training.name, training.images, training.people) == ("training", 6, 2)
    assert (training.fewest, training.mean, training.most) == (1, 2.0, 3)
    assert (validation.people, validation.cameras) == (1, 0)
    titles = [chart.title for chart in found.charts]
    if max(cameras) < 0:
        assert (training.cameras, titles) == (0, ["Images per person"])
    else:
        assert (training.cameras, titles) == (2, ["Images per person", "Images per camera"])
    assert count_people({"a": np.array([-1])}, {"a": np.array([1])}).charts == ()


def test_classes_are_counted_per_set_with_a_chart_and_attributes_without():
    labels = {"training": np.array([0, 2, 2, -1]), "test": np.array([1])}
    found = count_values("class", ("cat", "dog", "owl"), labels)
    (counts,) = found.labels
    assert counts.counts == {"training": (1, 0, 2), "test": (0, 1, 0)}
    (chart,) = found.charts
    assert chart.title == "Images per class"
    assert all(f">{name}</text>" in chart.svg for name in ("cat", "dog", "owl", "training"))
    both = found + count_values("hat", ("no", "yes"), {"test": np.array([1, 1])}, draws_chart=False)
    assert [each.label for each in both.labels] == ["class", "hat"]
    assert both.labels[1].counts == {"test": (0, 2)}
    assert len(both.charts) == 1
