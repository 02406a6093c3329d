"""Each loss trains a network alone, and its weights and centres survive a stop."""

from dataclasses import replace

import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.synthetic_people import CONFIG, build_network, build_task, build_unseeded_network

from reidray.config import LossConfig, OptimizerConfig
from reidray.losses import without_losses
from reidray.training.checkpoint import copy_weights
from reidray.training.loop import TrainerConfig, fit

ALONE = {"identity": 0.0, "triplet": 0.0, "attributes": 0.0}
TRAINER_CONFIG = TrainerConfig(
    seed=0,
    epochs=4,
    optimizer=OptimizerConfig(learning_rate=0.003),
    validation=CONFIG.validation,
)


class Saver(EpochRecorder):
    """Write the checkpoint of one epoch."""

    def __init__(self, epoch, folder):
        super().__init__()
        self.epoch, self.folder = epoch, folder

    def on_epoch_end(self, record, save):
        super().on_epoch_end(record, save)
        if record["epoch"] == self.epoch:
            self.folder.mkdir()
            save(self.folder)


def task_with(**losses):
    parts = {name: {"weight": weight} for name, weight in losses.items()}
    return build_task(replace(CONFIG, loss=LossConfig(**ALONE, **parts)))


@pytest.mark.parametrize("name", ["arcface", "circle", "supervised_contrastive"])
def test_a_network_learns_people_from_one_loss_alone(name):
    recorder = EpochRecorder()
    config = replace(TRAINER_CONFIG, epochs=6)
    fit(task_with(**{name: 1.0}), build_network(), config, recorder)
    losses = [record[f"loss_{name}"] for record in recorder.records]
    assert losses[-1] < 0.8 * losses[0]
    assert recorder.records[-1]["mean_ap"] > 0.9


def test_weights_and_centres_of_losses_resume_as_if_the_training_had_not_stopped(tmp_path):
    losses = {"arcface": 1.0, "circle": 0.1, "center": 0.01}
    saver = Saver(2, tmp_path / "2")
    whole = fit(task_with(**losses), build_network(), TRAINER_CONFIG, saver)
    torch.manual_seed(99)
    resumed = fit(
        task_with(**losses),
        build_unseeded_network(),
        TRAINER_CONFIG,
        EpochRecorder(),
        checkpoint=tmp_path / "2",
    )
    first, second = copy_weights(whole.network), copy_weights(resumed.network)
    assert first["losses.center.centers"].abs().max() > 0
    assert {"losses.arcface.weight", "losses.center.centers"} <= first.keys()
    for key, value in first.items():
        assert torch.allclose(value.float(), second[key].float(), atol=1e-6), key
    build_network().load_state_dict(without_losses(whole.best_weights))  # the model has no more
