"""Test the training loop under DDP, with two real processes."""

from dataclasses import dataclass, replace

import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.line_task import CheckpointSaver, LineTask, build_line_network, trainer_config
from support.synthetic_people import CONFIG, build_network, build_task
from torch import distributed, multiprocessing, nn

from reidray.config import LossConfig, LossOptions, OptimizerConfig, register_loss_options
from reidray.losses import register_loss
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit


def register_centre_loss():
    """Register a loss with weights of its own, in this process."""

    @register_loss_options("centres")
    @dataclass(frozen=True, kw_only=True)
    class CentreOptions(LossOptions):
        pass

    @register_loss("centres")
    class CentreLoss(nn.Module):
        def __init__(self, _, sizes):
            super().__init__()
            self.centres = nn.Parameter(torch.zeros(sizes.num_people, sizes.embedding_size))

        def forward(self, outputs, targets):
            return (outputs.embedding - self.centres[targets.person_indices]).square().mean()


def train_one_of_two(rank, folder):
    """Run the trainings of all tests as one of two processes."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    train_losses(rank, folder)
    train_lines(rank, folder)
    distributed.destroy_process_group()


def train_losses(rank, folder):
    """Train for an epoch, and save the weights of this rank."""
    register_centre_loss()
    losses = LossConfig(
        identity=0.0,  # a head without a loss gets a gradient of 0
        centres={"weight": 2.0},
        arcface={"weight": 1.0},
        circle={"weight": 0.1},
        center={"weight": 0.1},
    )
    config = replace(CONFIG, loss=losses, gather_embeddings=True)
    network, context = build_network(), DistributedContext(rank, 2)
    trainer = TrainerConfig(
        epochs=1, seed=0, optimizer=OptimizerConfig(warmup=0), validation=config.validation
    )
    fit(build_task(config, context), network, trainer, EpochRecorder(), context=context)
    torch.save(network.state_dict(), folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder in which two processes have saved what they trained."""
    folder = tmp_path_factory.mktemp("trained")
    multiprocessing.spawn(train_one_of_two, (folder,), nprocs=2)
    return folder


def test_ranks_keep_the_same_weights_those_of_a_loss_included(trained):
    first, second = (torch.load(trained / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name in ("centres.centres", "arcface.weight", "center.centers"):
        assert first[f"losses.{name}"].abs().max() > 1e-3
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


PHASES = {"freeze_backbone": 0.4, "ema_decay": 0.8, "max_grad_norm": 1.0}


def train_line(context, folder, *, normalises, checkpoint=None):
    """Train while the backbone is frozen and after, and save the weights and their average."""
    task, network = LineTask(context), build_line_network(normalises=normalises)
    end = fit(
        task,
        network,
        trainer_config(**PHASES),
        CheckpointSaver(folder) if context.is_main else EpochRecorder(),
        context=context,
        checkpoint=checkpoint,
    )
    return {"weights": network.state_dict(), "average": end.average.network.state_dict()}


def train_lines(rank, folder):
    """Train with and without batch normalisation, and once more from the first epoch."""
    context = DistributedContext(rank, 2)
    for kind in ("plain", "normalised"):
        normalises = kind == "normalised"
        states = train_line(context, folder / kind, normalises=normalises)
        torch.save(states, folder / f"{kind}-{rank}.pt")
    again = train_line(
        context, folder / "again", normalises=True, checkpoint=folder / "normalised" / "1"
    )
    torch.save(again, folder / f"again-{rank}.pt")


def names_that_differ(one, other, *, tolerance=0.0):
    """Return the names of weights, of the network or its average, that differ."""
    return [
        (part, name)
        for part, values in one.items()
        for name, value in values.items()
        if not torch.allclose(value.double(), other[part][name].double(), rtol=0, atol=tolerance)
    ]


def test_ranks_freeze_release_and_average_together_as_one_process(trained, tmp_path):
    first, second = (
        {
            kind: torch.load(trained / f"{kind}-{rank}.pt", weights_only=True)
            for kind in ("plain", "normalised", "again")
        }
        for rank in (0, 1)
    )
    alone = train_line(DistributedContext(), tmp_path / "alone", normalises=False)
    assert names_that_differ(first["plain"], alone, tolerance=1e-6) == []
    assert names_that_differ(first["plain"], second["plain"]) == []
    statistics = {("weights", f"backbone.1.{name}") for name in ("running_mean", "running_var")}
    # Each rank has the statistics of its own images; those of the average are rank 0's.
    assert set(names_that_differ(first["normalised"], second["normalised"])) == statistics
    assert names_that_differ(first["again"], first["normalised"]) == []
