"""The accuracy of an epoch is that of the network's answers to its batches."""

from dataclasses import replace

import numpy as np
import pytest
from support.epoch_recorder import EpochRecorder
from support.synthetic_people import CONFIG, build_network, build_task

from reidray.config import LossConfig, OptimizerConfig
from reidray.training.loop import TrainerConfig, fit

TRAINER_CONFIG = TrainerConfig(
    seed=0,
    epochs=2,
    optimizer=OptimizerConfig(learning_rate=0.003),
    validation=CONFIG.validation,
)


def train(**weights):
    """Return the records of a training, and its outputs with the labels of their images."""
    task, network, recorder = (
        build_task(replace(CONFIG, loss=LossConfig(**weights))),
        build_network(),
        EpochRecorder(),
    )
    answers, labels = [], []
    compute_losses = task.losses

    def losses(forward_pass, batch):
        labels.append((batch.person_indices.numpy(), batch.attribute_labels.numpy()))
        return compute_losses(forward_pass, batch)

    def keep(module, _, outputs):
        if module.training:
            attributes = [each.argmax(1) for each in outputs.attributes]
            answers.append((outputs.identity.argmax(1).numpy(), np.stack(attributes, axis=1)))

    task.losses = losses
    network.register_forward_hook(keep)
    fit(task, network, TRAINER_CONFIG, recorder)
    people, attributes = (
        np.stack(
            [given[column] == true[column] for given, true in zip(answers, labels, strict=True)]
        )
        for column in (0, 1)
    )
    return recorder.records, *(
        each.reshape(TRAINER_CONFIG.epochs, -1) for each in (people, attributes)
    )


def test_people_and_attributes_count_as_answers():
    records, people, attributes = train()
    found = [record["training_accuracy"] for record in records]
    assert found == pytest.approx(list((people.mean(axis=1) + attributes.mean(axis=1)) / 2))
    assert 0 < found[0] < found[-1] <= 1


def test_answers_of_a_head_that_learns_nothing_do_not_count():
    records, people, _ = train(attributes=0.0)
    found = [record["training_accuracy"] for record in records]
    assert found == pytest.approx(list(people.mean(axis=1)))
    records, *_ = train(identity=0.0)
    assert all("training_accuracy" not in record for record in records)
