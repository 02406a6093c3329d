"""Test the training loop under DDP, with two real processes."""

from dataclasses import dataclass, replace

import pytest
import torch
from support.epoch_recorder import EpochRecorder
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
    """Train for an epoch, and save the weights of this rank."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
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
    torch.save(network.state_dict(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.timeout(120)
def test_ranks_keep_the_same_weights_those_of_a_loss_included(tmp_path):
    multiprocessing.spawn(train_one_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name in ("centres.centres", "arcface.weight", "center.centers"):
        assert first[f"losses.{name}"].abs().max() > 1e-3
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
