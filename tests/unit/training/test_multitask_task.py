"""Training on generated images: the colour is the class, and a square is the mask."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.labels import make_labels

from reidray.config import (
    AugmentConfig,
    MultitaskValidationConfig,
    OptimizerConfig,
    TrainMultitaskConfig,
)
from reidray.data.attribute_schema import Attribute, AttributeSchema
from reidray.data.images.crops import CropGroup, CropTable
from reidray.models import build_model
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit
from reidray.training.tasks.multitask.label_evaluation import evaluate_network
from reidray.training.tasks.multitask.task import MultitaskTask

CLASSES = ("red", "green", "blue")
SCHEMA = AttributeSchema((Attribute("colour", CLASSES), Attribute("size", ("small", "large"))))
CONFIG = TrainMultitaskConfig(
    data="-", task="pets", batch_size=16, augment=AugmentConfig(flip=0.5, rotation=5, shift=0.05)
)


def generate_images(count=96, side=32):
    """Return images of squares on grey, with their masks, colours and sizes."""
    random = np.random.default_rng(0)
    images = random.integers(100, 140, (count, side, side, 3)).astype(np.uint8)
    masks = np.zeros((count, side, side), np.uint8)
    colours, sizes = random.integers(0, 3, count), random.integers(0, 2, count)
    for image, mask, colour, size in zip(images, masks, colours, sizes, strict=True):
        width = 10 + 10 * size
        top, left = random.integers(0, side - width, 2)
        square = (slice(top, top + width), slice(left, left + width))
        image[square] = 20
        image[(*square, colour)] = 230
        mask[square] = 1
    return images, masks, colours, sizes


def table(masked):
    images, masks, _, _ = generate_images()
    return CropTable([CropGroup(np.arange(len(images)), images, masks if masked else None)])


def class_labels():
    colours = generate_images()[2].astype(np.int64)
    return make_labels(np.full(len(colours), -1), class_labels=colours, classes=CLASSES)


def splits(labels):
    """Return the labels of the first 64 images for training, and the others for validation."""
    is_train = np.arange(len(labels)) < 64
    return {"train": labels.take(is_train), "val": labels.take(~is_train)}


def made_task(labels, config=CONFIG, context=DistributedContext()):
    crops = table(masked=bool(labels.classes))
    return MultitaskTask(config, splits(labels), crops, context)


def trainer_config(epochs, select_by):
    return TrainerConfig(
        seed=0,
        epochs=epochs,
        optimizer=OptimizerConfig(name="adam", learning_rate=0.005, schedule="constant"),
        validation=MultitaskValidationConfig(select_by=select_by),
    )


def pets_network():
    torch.manual_seed(0)
    return build_model("pets_scratch_transpose", height=32, width=32, num_classes=3)


def test_classes_and_masks_are_trained_together():
    listener, network = EpochRecorder(), pets_network()
    state = fit(made_task(class_labels()), network, trainer_config(18, "validation_loss"), listener)
    best = min(listener.records, key=lambda record: record["validation_loss"])
    assert state.trainer_state.best_epoch == best["epoch"]
    assert best["accuracy"] > 0.9
    assert best["mask_iou"] > 0.6
    assert set(listener.records[-1]) >= {"loss_labels", "loss_masks", "macro_f1", "mask_f1"}

    network.load_state_dict(state.best_weights)
    seen = evaluate_network(
        network.eval(),
        table(True),
        splits(class_labels())["val"],
        np.zeros(0, np.int64),
        CONFIG.loss,
        torch.device("cpu"),
    )
    assert seen.summary["accuracy"] == best["accuracy"]
    assert seen.summary["mask_iou"] == pytest.approx(best["mask_iou"])
    assert seen.labels["class"].confusion.sum() == seen.images == 32
    assert best["mask_iou"] < best["mask_accuracy"] < 1


def test_attributes_are_trained_and_unknown_ones_are_ignored():
    _, _, colours, sizes = generate_images()
    values = np.stack([colours, sizes], axis=1)
    values[::5, 1] = -1
    labels = make_labels(np.full(len(values), -1), attribute_labels=values, schema=SCHEMA)
    torch.manual_seed(0)
    network = build_model("attributes_vgg", height=32, width=32, schema=SCHEMA, dropout=0.0)
    listener = EpochRecorder()
    fit(made_task(labels), network, trainer_config(12, "attribute_accuracy"), listener)
    best = max(record["attribute_accuracy"] for record in listener.records)
    assert best > 0.85
    validation = splits(labels)["val"]
    seen = evaluate_network(
        network.eval(),
        table(False),
        validation,
        np.zeros(2, np.int64),
        CONFIG.loss,
        torch.device("cpu"),
    )
    assert seen.labels["size"].support.sum() == (validation.targets[:, 1] >= 0).sum()
    assert "mask_f1" not in seen.summary


def evaluate_at_random(labels):
    """Return the evaluation of labels by a network that knows nothing of them."""
    torch.manual_seed(0)
    network = build_model("attributes_vgg", height=32, width=32, schema=SCHEMA, dropout=0.0)
    majority = np.zeros(2, np.int64)
    device = torch.device("cpu")
    return evaluate_network(network.eval(), table(False), labels, majority, CONFIG.loss, device)


def test_the_most_confident_mistakes_are_kept_and_show_each_person_once():
    _, _, colours, sizes = generate_images()
    values = np.stack([colours, sizes], axis=1)
    values[::5, 1] = -1
    settings = {"attribute_labels": values, "schema": SCHEMA}
    labels = make_labels(np.full(len(values), -1), **settings)
    mistakes = evaluate_at_random(labels).mistakes
    by_target = {name: [each for each in mistakes if each.target == name] for name in SCHEMA.names}
    assert {name: len(found) for name, found in by_target.items()} == {"colour": 12, "size": 12}
    for column, (name, found) in enumerate(by_target.items()):
        probabilities = [each.probability for each in found]
        assert probabilities == sorted(probabilities, reverse=True)
        names = SCHEMA.attributes[column].values
        for each in found:
            assert each.predicted != each.label == names[values[each.index, column]], name

    people = make_labels(np.arange(len(values)) % 6, **settings)
    of_people = evaluate_at_random(people).mistakes
    for name in SCHEMA.names:
        shown = [each.index % 6 for each in of_people if each.target == name]
        assert len(shown) == len(set(shown)) <= 6
    assert of_people[0] == mistakes[0]


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_each_batch_of_one(workers):
    config = replace(CONFIG, num_workers=workers)
    alone = list(made_task(class_labels()).batches(3))
    shared = [
        list(made_task(class_labels(), config, DistributedContext(rank, workers)).batches(3))
        for rank in range(workers)
    ]
    for step, batch in enumerate(alone):
        for field in ("images", "targets", "masks"):
            pieces = [getattr(of_rank[step], field) for of_rank in shared]
            whole = torch.stack(pieces, dim=1).flatten(0, 1)
            assert torch.equal(whole, getattr(batch, field))


def test_every_image_comes_each_epoch_and_moves_with_its_mask():
    config = replace(CONFIG, batch_size=24)
    batches = list(made_task(class_labels(), config).batches(0))
    assert [len(batch.targets) for batch in batches] == [24, 24, 24]
    for batch in batches:
        red, green, blue = batch.images.unbind(dim=1)
        square = (red - green).abs() + (green - blue).abs() > 150
        agreeing = (square == (batch.masks > 0)).float().mean(dim=(1, 2))
        assert (agreeing > 0.9).all()
