"""Losses that need no classifier of the training people are those of the validation images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.synthetic_people import CONFIG, build_network, build_task, label_crops

from reidray.config import BatchConfig, LossConfig, OptimizerConfig
from reidray.losses import (
    LossSizes,
    attach_losses,
    attribute_loss,
    batch_hard_triplet_loss,
    loss_modules,
)
from reidray.models.networks import Outputs
from reidray.training.loop import TrainerConfig, fit
from reidray.training.tasks.reid.validation_loss import validation_losses


def losses_of(config, outputs, labels):
    network = torch.nn.Module()
    attach_losses(network, config.loss.parts, LossSizes(num_people=8, embedding_size=3))
    return validation_losses(loss_modules(network), config, outputs, labels)


@pytest.fixture
def labels():
    """24 images of 4 people."""
    return label_crops(np.arange(1, 5), 0)


@pytest.fixture
def outputs():
    random = torch.Generator().manual_seed(0)
    feature, logits = torch.randn(24, 3, generator=random), torch.randn(24, 2, generator=random)
    return Outputs(feature, 2 * feature, feature[:, :0], (logits,))


def test_one_batch_of_everybody_has_the_loss_of_all_images(outputs, labels):
    loss = LossConfig(triplet=0.5, attributes=2.0, margin=0.3, smoothing=0.0)
    config = replace(CONFIG, loss=loss, batch=BatchConfig(people=64, crops=6))
    people = torch.from_numpy(labels.person_ids)
    attributes = torch.from_numpy(labels.attribute_labels.astype(np.int64))
    triplet = 0.5 * batch_hard_triplet_loss(outputs.metric_feature, people, margin=0.3)
    of_attributes = 2 * attribute_loss(outputs.attributes, attributes, smoothing=0.0)
    assert losses_of(config, outputs, labels) == pytest.approx(
        {
            "validation_loss": float(triplet + of_attributes),
            "validation_loss_triplet": float(triplet),
            "validation_loss_attributes": float(of_attributes),
        }
    )


def test_losses_of_the_training_people_are_left_out(outputs, labels):
    loss = LossConfig(triplet=0.0, attributes=0.0, center={"weight": 1.0}, arcface={"weight": 1.0})
    assert losses_of(replace(CONFIG, loss=loss), outputs, labels) == {}


def test_batches_are_the_same_in_every_epoch_and_training(outputs, labels):
    first = losses_of(CONFIG, outputs, labels)
    assert first == losses_of(replace(CONFIG, seed=5), outputs, labels)
    assert first != losses_of(replace(CONFIG, batch=BatchConfig(people=2)), outputs, labels)


def test_a_single_validation_person_has_no_pairs_to_compare(outputs, labels):
    alone = Outputs(
        *(each[:6] for each in (outputs.embedding, outputs.metric_feature)),
        outputs.identity[:6],
        tuple(each[:6] for each in outputs.attributes),
    )
    found = losses_of(CONFIG, alone, labels.take(np.arange(24) < 6))
    assert found.keys() == {"validation_loss", "validation_loss_attributes"}


def test_a_training_lowers_its_loss_on_people_that_it_does_not_see():
    recorder = EpochRecorder()
    config = TrainerConfig(
        seed=0,
        epochs=4,
        optimizer=OptimizerConfig(learning_rate=0.003),
        validation=CONFIG.validation,
    )
    task = build_task(replace(CONFIG, loss=LossConfig(identity=0.0, attributes=0.0)))
    fit(task, build_network(), config, recorder)
    losses = [record["validation_loss"] for record in recorder.records]
    assert losses[-1] < 0.8 * losses[0]
    assert "validation_loss_attributes" not in recorder.records[0]
