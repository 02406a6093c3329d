"""Train with two processes on one device, with SyncBatchNorm, as a multi-GPU training does."""

import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from support.epoch_recorder import EpochRecorder
from support.synthetic_people import CONFIG, build_network, build_task
from torch import distributed, multiprocessing

from reidray.config import OptimizerConfig
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit

WORLD_SIZE = 2


def check_two_processes(device):
    """Check that both processes end with the same finite weights, and the same average of them."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_train, (str(device), folder), nprocs=WORLD_SIZE)
        weights = [np.load(Path(folder) / f"{rank}.npy") for rank in range(WORLD_SIZE)]
    assert np.isfinite(weights[0]).all(), "a weight is not finite"
    assert np.array_equal(*weights), "the processes have different weights"
    return f"the same weights in both, {time.perf_counter() - start:.0f} s"


def _train(rank, device, folder):
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=60),
    )
    context = DistributedContext(rank=rank, world_size=WORLD_SIZE, device=torch.device(device))
    network = build_network()
    config = TrainerConfig(
        epochs=2,
        seed=0,
        optimizer=OptimizerConfig(freeze_backbone=0.4, ema_decay=0.9),
        validation=CONFIG.validation,
        sync_batchnorm=context.device.type == "cuda",
    )
    end = fit(build_task(context=context), network, config, EpochRecorder(), context=context)
    parameters = [*network.parameters(), *end.average.network.parameters()]
    learned = torch.cat([p.detach().flatten().cpu() for p in parameters])
    np.save(Path(folder) / f"{rank}.npy", learned.numpy())
    distributed.destroy_process_group()
