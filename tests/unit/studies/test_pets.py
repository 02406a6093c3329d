"""The figures of a comparison of pets networks, without Ray."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from support.labels import make_labels
from support.pet_images import BREEDS, draw_pets

from reidray.config import AugmentConfig
from reidray.data.device_crops import CopiedCrops
from reidray.data.images.crops import CropGroup, CropTable
from reidray.data.images.decoding import decode_files
from reidray.data.layouts import read_manifest
from reidray.models import LoadedModel, ModelCard, build_architecture, build_model
from reidray.reporting.charts.learning_curves import run_comparison_charts
from reidray.studies.pets.pet_data_figures import build_data_figures
from reidray.studies.pets.pet_features import (
    evaluate_neighbours,
    map_features,
    run_with_features,
)
from reidray.studies.pets.pet_samples import choose_masks, most_confident_mistakes
from reidray.studies.pets.training_runs import read_training_metrics

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return read_manifest(str(draw_pets(tmp_path_factory.mktemp("data") / "pets")), "auto")


@pytest.fixture(scope="module")
def crops(manifest):
    table = manifest.table
    paths, masks = (table[column].to_pylist() for column in ("path", "mask_path"))
    found = decode_files(manifest.files, paths, (32, 32), masks)
    return CropTable([CropGroup(np.arange(len(paths)), found.crops, found.masks)])


def labels_of(manifest):
    labels = manifest.table["label"].to_numpy()
    return make_labels(
        np.full(len(labels), -1), class_labels=labels.astype(np.int64), classes=manifest.classes
    )


def network(name):
    torch.manual_seed(0)
    return build_model(name, height=32, width=32, num_classes=3).eval()


def evaluated(name, manifest, crops):
    pets, labels = network(name), labels_of(manifest)
    outputs, features = run_with_features(pets, CopiedCrops(crops, CPU), labels, CPU)
    return pets, labels, outputs, features


def test_features_come_in_the_order_of_the_images(manifest, crops):
    pets, labels, outputs, features = evaluated("pets_scratch_upsample", manifest, crops)
    assert features.shape == (36, 64)
    with torch.inference_mode():
        torch.testing.assert_close(pets.classifier[-1](features), outputs.logits[0])
    (last,) = crops.read([labels.indices[-1:]])
    alone = pets(torch.from_numpy(last.crops).permute(0, 3, 1, 2)).features
    torch.testing.assert_close(alone[0], features[-1])


def test_neighbours_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    query, gallery = (random.normal(size=(n, 5)).astype(np.float32) for n in (40, 90))
    classes = random.integers(0, 3, 130)
    of_query, of_gallery = (
        make_labels(np.full(len(each), -1), class_labels=each, classes=BREEDS)
        for each in (classes[:40], classes[40:])
    )
    found = evaluate_neighbours(*map(torch.from_numpy, (query, gallery)), of_query, of_gallery)
    model = KNeighborsClassifier(10, weights="distance").fit(gallery, classes[40:])
    predicted = model.predict(query)
    assert found.accuracy == (predicted == classes[:40]).mean()
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (classes[:40], predicted), 1)
    assert np.array_equal(found.confusion, expected)


def test_a_map_holds_twenty_images_of_a_class_at_most():
    classes = np.repeat(np.arange(3), (30, 25, 4))
    labels = make_labels(np.full(len(classes), -1), class_labels=classes, classes=BREEDS)
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(59, 4)).astype(np.float32))
    found = map_features(features, labels, seed=0)
    assert np.bincount(found.labels).tolist() == [20, 20, 4]
    assert found.coordinates.shape == (44, 2)
    again = map_features(features, labels, seed=0)
    assert np.array_equal(found.coordinates, again.coordinates)
    assert map_features(features[:3], labels.take(np.arange(59) < 3), seed=0) is None


def test_masks_are_the_best_first_and_the_worst_first(manifest, crops):
    pets, labels, outputs, _ = evaluated("pets_scratch_transpose", manifest, crops)
    found = choose_masks(pets, crops, outputs, labels, CPU)
    samples = (*found.best, *found.worst)
    assert len({sample.index for sample in samples}) == 8
    for sample in samples:
        both, either = sample.truth & sample.predicted, sample.truth | sample.predicted
        assert sample.iou == pytest.approx(both.sum() / either.sum(), abs=0.01)
    best, worst = ([sample.iou for sample in end] for end in (found.best, found.worst))
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    assert min(best) >= max(worst)


def test_of_few_images_none_is_among_the_best_and_the_worst(manifest, crops):
    pets, few = network("pets_scratch_transpose"), labels_of(manifest)
    few = few.take(np.arange(len(few)) < 5)
    outputs, _ = run_with_features(pets, CopiedCrops(crops, CPU), few, CPU)
    found = choose_masks(pets, crops, outputs, few, CPU)
    assert (len(found.best), len(found.worst)) == (4, 1)


def test_a_network_without_masks_has_no_mask_samples(manifest, crops):
    (group,) = crops.read([np.arange(36)])
    images = CropTable([CropGroup(group.indices, group.crops)])
    pets, labels, outputs, _ = evaluated("pets_mobilenet_dense", manifest, images)
    assert choose_masks(pets, images, outputs, labels, CPU) is None


def test_mistakes_are_wrong_and_the_most_confident_first(manifest, crops):
    _, labels, outputs, _ = evaluated("pets_scratch_upsample", manifest, crops)
    found = most_confident_mistakes(outputs, labels)
    wrong = outputs.logits[0].argmax(dim=1).numpy() != labels.class_labels
    probabilities = outputs.logits[0].softmax(dim=1).max(dim=1).values.numpy()
    assert [each.probability for each in found] == pytest.approx(
        sorted(probabilities[wrong], reverse=True)[:8]
    )
    assert all(each.label != each.predicted for each in found)
    assert all(labels.classes[labels.class_labels[each.index]] == each.label for each in found)


def loaded(recipe):
    architecture = build_architecture("pets_scratch_upsample", height=32, width=32, num_classes=3)
    pets = network("pets_scratch_upsample")
    return LoadedModel(pets, architecture, ModelCard(metric="", recipe=recipe), "id")


def test_images_are_counted_in_the_splits_of_the_training(manifest):
    recipe = {"data": "-", "task": "pets", "val_fraction": 0.25, "augment": {"flip": 0.5}}
    nothing = dict.fromkeys(AugmentConfig().to_settings(), 0)
    models = {
        "one": loaded(recipe),
        "by_hand": loaded({}),
        "other": loaded(recipe | {"val_fraction": 0.5, "augment": nothing}),
    }
    found = build_data_figures(manifest, manifest, np.arange(36), models, seed=0, shows_images=True)
    (classes,) = found.counts.labels
    assert classes.values == manifest.classes
    assert classes.counts == {
        "training": (6, 6, 6),
        "validation": (2, 2, 2),
        "test": (4, 4, 4),
    }
    assert "training of one split" in found.note
    titles = [section.title for section in found.sections]
    assert titles == [
        "Variability within a class",
        "Images that look poor",
        "Before and after augmentation: one",
        "Before and after augmentation: other",
    ]
    assert len(found.sections[0].rows) == 3
    assert [len(row.pictures) for row in found.sections[2].rows] == [6, 6, 6, 6]
    assert not found.sections[3].rows


def test_metrics_are_those_of_the_run_directory_that_holds_the_model(tmp_path):
    for run in ("a", "b"):
        (tmp_path / run / "model").mkdir(parents=True)
    (tmp_path / "a" / "metrics.jsonl").write_text(
        '{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "loss": 1.0, "accuracy": 0.5}\n'
    )
    found = read_training_metrics({run: str(tmp_path / run / "model") for run in ("a", "b")})
    assert found == {"a": [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "accuracy": 0.5}]}
    charts = run_comparison_charts(found)
    titles = [chart.title for chart in charts]
    assert titles == ["Loss in training", "Accuracy on validation images"]
    assert all(">a<" in chart.svg for chart in charts)


def test_without_a_recipe_there_are_training_and_test_images(manifest):
    found = build_data_figures(
        manifest, manifest, np.arange(36), {"by_hand": loaded({})}, seed=0, shows_images=False
    )
    (classes,) = found.counts.labels
    assert classes.counts == {"training": (8, 8, 8), "test": (4, 4, 4)}
    assert (found.note, found.sections) == ("", ())
