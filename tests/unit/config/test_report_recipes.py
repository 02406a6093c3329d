"""Recipes of the reports' networks have the values of their reports."""

import pytest

from reidray.config.trainings import TrainMultitaskConfig, TrainReidConfig

FLIP = {"flip": 0.5}
PETS = {**FLIP, "shift": 0.1, "zoom": 0.1, "brightness": 0.2}
CLOTHES = {**FLIP, "rotation": 12.0, "shift": 0.07, "shear": 5.7, "zoom": 0.1}


def strengths(config):
    """Augmentations that are on, by name."""
    return {name: value for name, value in config.augment.to_settings().items() if value}


@pytest.mark.parametrize(
    ("recipe", "batch", "epochs", "minutes", "patience", "augmentations"),
    [
        ("pets_scratch_transpose", 64, 40, 15, 3, PETS),
        ("pets_mobilenet_transpose", 64, 40, 15, 3, PETS),
        ("pets_scratch_upsample", 32, 20, 15, 0, FLIP),
        ("pets_mobilenet_upsample", 32, 20, 15, 0, FLIP),
        ("pets_scratch_deep", 32, 20, None, 0, FLIP),
        ("pets_autoencoder", 128, 5, None, 0, {}),
        ("pets_mobilenet_dense", 32, 10, None, 0, {}),
        ("attributes_vgg", 64, 100, None, 25, CLOTHES),
    ],
)
def test_a_multitask_recipe_has_the_values_of_its_report(
    recipe, batch, epochs, minutes, patience, augmentations
):
    task = "attributes" if recipe == "attributes_vgg" else "pets"
    config = TrainMultitaskConfig(data="data", task=task, recipe=recipe)
    assert (config.batch_size, config.epochs, config.max_minutes) == (batch, epochs, minutes)
    assert config.validation.patience == patience
    assert strengths(config) == augmentations
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adam", 0.001)


@pytest.mark.parametrize(
    ("recipe", "optimizer", "images", "epochs", "augmentations"),
    [
        ("vgg_triplet_rgb", "adam", 350, 40, {**PETS, "rotation": 10.0}),
        # 5 epochs of 234 batches: 50 passes over the 5,933 images of QUT's Market-1501
        ("vgg_triplet_gray", "rmsprop", 256, 50, {}),
    ],
)
def test_a_triplet_recipe_has_the_values_of_its_report(
    recipe, optimizer, images, epochs, augmentations
):
    config = TrainReidConfig(data="data", recipe=recipe)
    assert config.optimizer.name == optimizer
    assert config.batch.people * config.batch.crops == images
    assert (config.epochs, config.loss.margin) == (epochs, 1.0)
    assert strengths(config) == augmentations


def test_the_trento_recipe_has_the_losses_the_split_and_the_validation_of_its_report():
    config = TrainReidConfig(data="data", recipe="apr_trento")
    assert (config.network.name, config.network.options["backbone"]) == ("apr", "resnet50")
    assert {name: part.weight for name, part in config.loss.used.items()} == {
        "identity": 1.0,
        "attributes": 1.0,
    }
    assert config.loss.smoothing == 0
    assert strengths(config).keys() == {"flip", "rotation", "pad_crop"}
    assert (config.split_order, config.val_fraction) == ("files", 0.3)
    validation = config.validation
    assert (validation.num_queries, validation.top_k) == (100, 50)
    assert (validation.metric, validation.protocol) == ("euclidean", "all")
