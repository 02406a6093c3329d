"""Recipes are adapted to the data, and the advice of every refusal works."""

import re

import pytest
from support.training_folders import (
    multitask_experiment,
    reid_experiment,
    write_attribute_manifest,
    write_class_manifest,
    write_manifest,
    write_person_folders,
)

from reidray.cli.arguments import parse_arguments
from reidray.config import TrainMultitaskConfig, TrainReidConfig
from reidray.config.loading import recipe_files
from reidray.config.sections.open_section import config_to_dict
from reidray.errors import UserError

SMALL = ("--network.height", "32", "--network.width", "16")


def adapted(experiment):
    """Return the line on an adaptation; nothing if there is none."""
    told = [note for note in experiment.manifest.notes if "the recipe is adapted" in note]
    assert len(told) <= 1
    return "".join(told)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Thirty people of two cameras, without attributes."""
    return write_person_folders(tmp_path_factory.mktemp("plain") / "data", 30)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Images of five kinds of pets, without masks."""
    return write_class_manifest(tmp_path_factory.mktemp("classes") / "data", 5)


@pytest.mark.parametrize(
    ("recipe", "cameras"),
    [
        *((None, 2), ("demo", 0), ("reid_nano", 0), ("market_small", 1)),
        *((name, 2) for name in recipe_files("reid")),
    ],
)
def test_every_recipe_trains_on_few_people_without_attributes(tmp_path, recipe, cameras):
    data = write_person_folders(tmp_path / "data", 8, cameras)
    flags = ["--network.weights", "none"]  # of recipes that begin with weights from a hub
    experiment = reid_experiment(data, *flags, *(["--recipe", recipe] if recipe else []))
    assert experiment.config.batch.people <= 8
    assert experiment.config.validation.select_by == "mean_ap"
    assert not experiment.architecture.schema.attributes
    assert "batches of" in adapted(experiment)
    written = ["--config", str(saved(experiment, tmp_path))]
    assert parse_arguments(TrainReidConfig, written).config == experiment.config


def test_a_recipe_spreads_crops_over_cameras_only_where_images_name_them(tmp_path, plain):
    data = write_person_folders(tmp_path / "data", 30, 0)
    experiment = reid_experiment(data, "--recipe", "reid_nano")
    assert not experiment.config.batch.spread_cameras
    assert "not spread over cameras" in adapted(experiment)
    assert reid_experiment(plain, "--recipe", "reid_nano").config.batch.spread_cameras
    with pytest.raises(UserError, match=r"use --no-batch\.spread-cameras"):
        reid_experiment(data, "--batch.spread-cameras")


@pytest.mark.parametrize("recipe", ["demo", "joint_osnet"])
def test_a_configuration_that_was_adapted_is_adapted_no_more(tmp_path, recipe):
    data = write_person_folders(tmp_path / "data", 8)
    experiment = reid_experiment(data, "--recipe", recipe)
    again = reid_experiment(data, "--config", str(saved(experiment, tmp_path)))
    assert again.config == experiment.config
    assert not adapted(again)


def saved(experiment, folder):
    """The configuration of a run, as a file."""
    import yaml

    (folder / "config.yaml").write_text(yaml.safe_dump(config_to_dict(experiment.config)))
    return folder / "config.yaml"


@pytest.mark.parametrize(
    ("recipe", "backbone"), [("demo", "resnet_tiny"), ("market_small", "resnet_small_patch")]
)
def test_a_recipe_for_attributes_trains_identity_alone_without_attributes(plain, recipe, backbone):
    experiment = reid_experiment(plain, "--recipe", recipe)
    assert experiment.architecture.name == "baseline"
    assert experiment.architecture.options.backbone == backbone
    assert "identity alone" in adapted(experiment)
    assert "feature_size" in adapted(experiment)


def test_a_recipe_that_fits_the_data_is_not_adapted(tmp_path):
    data = write_attribute_manifest(tmp_path / "data", 30)
    experiment = reid_experiment(data, "--recipe", "demo")
    assert (experiment.architecture.name, experiment.config.batch.people) == ("apr", 16)
    assert experiment.config.validation.select_by == "attribute_accuracy"
    assert not adapted(experiment)


def test_unknown_validation_attributes_do_not_select_the_epoch(tmp_path):
    data = write_attribute_manifest(tmp_path / "data", 30, val="")
    experiment = reid_experiment(data, "--recipe", "demo")
    assert (experiment.architecture.name, experiment.config.validation.select_by) == (
        "apr",
        "mean_ap",
    )
    with pytest.raises(UserError, match="no attribute of the validation people is known"):
        reid_experiment(data, "--recipe", "demo", "--validation.select-by", "attribute_accuracy")


@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        (("--network.name", "apr"), ("--network.name", "baseline")),
        (
            ("--validation.select-by", "attribute_accuracy"),
            ("--validation.select-by", "mean_ap"),
        ),
        (("--batch.people", "40"), ("--batch.people", r"\d+")),
        (("--batch.people", "5", "--num-workers", "2"), ("--batch.people", r"\d+")),
        (("--num-workers", "20"), ("--num-workers", r"\d+")),
        (("--num-workers", "7", "--batch.people", "15"), ("--batch.people", r"\d+")),
        (("--batch.people", "40", "--num-workers", "20"), ("--batch.people", r"\d+")),
    ],
)
@pytest.mark.parametrize("recipe", ["demo", "market_small"])
def test_the_advice_of_a_refusal_works(plain, recipe, flags, advice):
    asked = ("--recipe", recipe, *flags)
    with pytest.raises(UserError) as refused:
        reid_experiment(plain, *asked)
    assert re.search(" ".join(advice), str(refused.value))
    advised = re.findall(r"(--[a-z.-]+) (\w+)", str(refused.value).rpartition(": ")[2])
    assert advised
    reid_experiment(plain, *asked, *(part for flag in advised for part in flag))


def test_a_named_network_drops_the_settings_that_it_lacks(tmp_path):
    data = write_attribute_manifest(tmp_path / "data", 30)
    experiment = reid_experiment(
        data, "--recipe", "demo", "--network.name", "vgg_triplet_rgb", *SMALL
    )
    assert experiment.architecture.name == "vgg_triplet_rgb"
    assert "backbone, feature_size, dropout left out" in adapted(experiment)
    with pytest.raises(UserError, match="'baseline' has no feature_size"):
        reid_experiment(
            data, "--recipe", "demo", "--network.name", "baseline", "--network.feature-size", "64"
        )


def test_data_without_people_is_refused_with_advice(tmp_path):
    data = write_class_manifest(tmp_path / "data", 4)
    with pytest.raises(UserError, match=r"names nobody .* jobs/train_multitask\.py trains"):
        reid_experiment(data)
    assert (
        multitask_experiment(data, "--task", "pets").describe_images()
        == "9 training, 3 validation images"
    )


@pytest.mark.parametrize("recipe", [name for name in recipe_files("multitask") if "pets" in name])
def test_classes_alone_are_trained_without_masks(classes, recipe):
    experiment = multitask_experiment(classes, "--recipe", recipe)
    assert experiment.architecture.name == "pets_mobilenet_dense"
    assert "mask" not in experiment.architecture.options.predicts
    images = TrainMultitaskConfig(data="data", task="pets", recipe=recipe).batch_size
    assert f"batches of 12 images instead of {images}" in adapted(experiment)
    network = ("--network.name", "pets_autoencoder")
    with pytest.raises(UserError, match=r"or use --network\.name pets_mobilenet_dense"):
        multitask_experiment(classes, "--recipe", recipe, *network)


def test_images_of_one_class_are_noted(tmp_path, classes):
    rows = [f"{image}.png,train,cat" for image in range(6)]
    data = write_manifest(tmp_path / "data", "path,split,label", rows)
    told = "the images show one class"
    for images, count in ((data, 1), (classes, 0)):
        notes = multitask_experiment(images, "--task", "pets").manifest.notes
        assert sum(told in note for note in notes) == count


def test_the_advice_on_a_batch_of_classes_works(classes):
    data, recipe = classes, "pets_scratch_transpose"
    with pytest.raises(UserError, match="use --batch-size 12, or less"):
        multitask_experiment(data, "--recipe", recipe, "--batch-size", "13")
    with pytest.raises(UserError, match="use --num-workers 6 and --batch-size 12"):
        multitask_experiment(data, "--recipe", recipe, "--num-workers", "8")
    flags = ("--num-workers", "6", "--batch-size", "12")
    assert multitask_experiment(data, "--recipe", recipe, *flags).config.num_workers == 6


def test_unlabelled_images_are_not_decoded(tmp_path):
    rows = [f"{p}_{i}.png,train,{p},male" for p in range(1, 9) for i in range(2)]
    rows += [f"n{i}.png,train,{1 + i % 8}," for i in range(8)]
    rows += [f"t{i}.png,gallery,77," for i in range(50)] + ["q.png,query,77,"]
    data = write_manifest(tmp_path / "data", "path,split,person,attr_gender", rows)
    experiment = multitask_experiment(data, "--recipe", "attributes_vgg")
    assert len(experiment.image_files().paths) == 16
    assert {*experiment.labels} == {"train", "val"}
    for part in experiment.labels.values():
        paths = experiment.image_files().paths.take(part.indices)
        assert not any(path.startswith(("n", "t", "q")) for path in paths)
    assert len(reid_experiment(data).image_files().paths) == 24


def test_attributes_are_trained_on_data_with_classes(tmp_path):
    rows = [f"{p}_{i}.png,train,{p},male,{'ab'[p % 2]}" for p in range(1, 9) for i in range(2)]
    data = write_manifest(tmp_path / "data", "path,split,person,attr_gender,label", rows)
    experiment = multitask_experiment(data, "--recipe", "attributes_vgg")
    assert experiment.labels["train"].targets.shape[1] == 1
    assert not experiment.labels["train"].classes
    assert len(experiment.labels["train"].schema.names) == 1


def test_validation_images_without_a_label_are_refused(tmp_path):
    data = write_attribute_manifest(tmp_path / "data", 8, val="")
    with pytest.raises(UserError, match=r"no label of a validation image is known: label some$"):
        multitask_experiment(data, "--recipe", "attributes_vgg")
