"""The page of a multi-task training: curves of each output, mistakes, and its images."""

import re

import numpy as np
import pytest
from support.labels import make_labels

from reidray.config import AugmentConfig, TrainMultitaskConfig
from reidray.config.sections.open_section import config_to_dict
from reidray.data.attribute_schema import NO_YES, Attribute, AttributeSchema
from reidray.metrics.classification import evaluate_classification
from reidray.reporting.dataset_figures.figures import (
    DatasetFigures,
    count_images,
    group_by_person,
    group_by_target,
    sample_sections,
)
from reidray.reporting.dataset_figures.pictures import (
    ImageSource,
    Picture,
    PictureRow,
    PictureSection,
)
from reidray.reporting.multitask_report import (
    MultitaskSummary,
    SplitMetrics,
    write_multitask_report,
)

CLASSES = ("cat", "dog")
SCHEMA = AttributeSchema(tuple(Attribute(f"mark_{number}", NO_YES) for number in range(27)))
PETS = TrainMultitaskConfig(data="/srv/pets", task="pets", output="runs/pets")
PEOPLE = TrainMultitaskConfig(data="/srv/crops", task="attributes", output="runs/people")
NOTICE = "This page shows images of people"


def record(epoch, **metrics):
    times = {"seconds": 1.0, "images_per_second": 9.0, "input_wait": 0.1, "learning_rate": 1e-3}
    return {"epoch": epoch, "step": epoch, "loss": 1.0, "loss_labels": 1.0, **times, **metrics}


def write(tmp_path, config, records, figures, mistakes=None):
    truth = np.array([0, 1, 1])
    metrics = evaluate_classification(np.array([0, 1, 0]), truth, CLASSES)
    summary = {"validation_loss": 0.5, "accuracy": 2 / 3}
    parts = {
        name: SplitMetrics(3, 0.1, summary, {"class": metrics})
        for name in ("training", "validation", "test")
    }
    path = tmp_path / "report.html"
    write_multitask_report(
        path,
        config=config_to_dict(config),
        summary=MultitaskSummary("/srv", "pets", records, len(records), 2.0, parts, (), ()),
        figures=figures,
        mistakes=mistakes,
    )
    return path.read_text()


def gray_source(read):
    """Return a source of crops whose level is their index, which notes what it reads."""

    def crops(indices):
        read.extend(indices.tolist())
        return np.repeat(indices.astype(np.uint8), 32 * 32 * 3).reshape(-1, 32, 32, 3)

    return ImageSource(crops, lambda index: f"images/{index}.jpg")


def test_the_page_of_classes_shows_their_images_and_confident_mistakes(tmp_path):
    records = [
        record(epoch, accuracy=0.5, macro_f1=0.4, mask_accuracy=0.7, mask_f1=0.6, mask_iou=0.5)
        for epoch in (1, 2)
    ]
    train = make_labels([-1] * 20, class_labels=[0, 1] * 10, classes=CLASSES)
    test = make_labels([-1] * 4, class_labels=[0, 0, 0, 1], classes=CLASSES, first_index=20)
    read = []
    sections = sample_sections(
        gray_source(read), train, group_by_target(train), AugmentConfig(), seed=0, fill=0.0
    )
    figures = DatasetFigures(count_images({"training": train, "test": test}), sections)
    wrong = Picture("data:image/jpeg;base64,AA", "images/21.jpg", "label cat, predicted dog")
    mistakes = PictureSection(
        "Images that look mislabelled", "Wrong.", (PictureRow("Class", (wrong,)),)
    )
    page = write(tmp_path, PETS, records, figures, mistakes)
    headings = re.findall("<h2>(.*)</h2>", page)
    assert headings == [
        *("Learning curves", "Classes", "Images that look mislabelled", "Data"),
        *("Variability within a class", "Samples before and after augmentation"),
        *("Images that look poor", "Configuration"),
    ]
    assert set(read) <= set(range(20))
    assert "cat: 8 of 10 images" in page
    assert "label cat, predicted dog" in page
    assert ">Images per class</figcaption>" in page
    row = re.search(r'<th scope="row">cat</th>(<td class="number">\d+</td>)+</tr>', page)
    assert re.findall(r">(\d+)<", row[0]) == ["10", "3"]
    assert ">pixels</text>" in page
    assert NOTICE not in page


@pytest.mark.parametrize("with_pictures", [True, False])
def test_the_page_of_people_says_that_it_shows_them_where_it_does(tmp_path, with_pictures):
    values = np.arange(12 * 27).reshape(12, 27) % 2
    train = make_labels(np.repeat([3, 4, 5], 4), [1, 2] * 6, attribute_labels=values, schema=SCHEMA)
    read = []
    sections = ()
    if with_pictures:
        groups = group_by_target(train)
        assert [*groups.members][:2] == ["mark 0: no", "mark 0: yes"]
        sections = sample_sections(
            gray_source(read), train, groups, AugmentConfig(), seed=0, fill=0.0
        )
    figures = DatasetFigures(count_images({"training": train}), sections, shows_people=True)
    page = write(tmp_path, PEOPLE, [record(1)], figures)
    assert (NOTICE in page) == ("<img" in page) == with_pictures
    assert ">Images per person</figcaption>" in page
    assert ">Images per camera</figcaption>" in page
    row = page[page.index('<th scope="row">training</th>') :].partition("</tr>")[0]
    assert re.findall(r'number">([^<]+)<', row) == ["12", "3", "4", "4.0", "4", "2"]
    assert "<th>Mark 26</th>" in page


def test_each_of_many_attributes_has_a_curve(tmp_path):
    records = [
        record(
            epoch,
            attribute_accuracy=0.5,
            attribute_majority=0.6,
            attributes={name: {"accuracy": 0.5, "majority": 0.6} for name in SCHEMA.names},
        )
        for epoch in (1, 2, 3)
    ]
    train = make_labels([1, 1, 2, 2], attribute_labels=np.ones((4, 27)), schema=SCHEMA)
    page = write(tmp_path, PEOPLE, records, DatasetFigures(count_images({"training": train})))
    for part in ("1 to 12", "13 to 24", "25 to 27"):
        assert f"Accuracy of each attribute, {part} of 27" in page
    drawn = re.findall(r"<text[^>]*>(mark \d+)</text>", page)
    assert sorted(drawn) == sorted(name.replace("_", " ") for name in SCHEMA.names)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("names", "title"), [({}, "Person 7"), ({"名前 é": 7}, "Person 名前 é")])
def test_people_are_grouped_by_name_without_those_unknown(names, title):
    members = group_by_person(make_labels([-1, 0, 7, 7]), names).members
    assert {name: each.tolist() for name, each in members.items()} == {title: [2, 3]}
