"""Test how training processes communicate, with real processes."""

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic_people import CONFIG, build_network, build_task
from torch import distributed, multiprocessing

from reidray.config import LossConfig
from reidray.losses import (
    batch_hard_triplet_loss,
    circle_loss,
    semi_hard_triplet_loss,
    supervised_contrastive_loss,
)
from reidray.training.distributed_context import DistributedContext
from reidray.training.steps.epoch_progress import StepWindow
from reidray.training.time_budget import TimeBudget, TimeLimit

PEOPLE = torch.arange(6).repeat_interleave(4)
LOSSES = (
    partial(batch_hard_triplet_loss, margin=0.3),
    partial(semi_hard_triplet_loss, margin=0.3),
    partial(circle_loss, margin=0.25, scale=8.0),
    partial(supervised_contrastive_loss, temperature=0.1),
)


def weights_and_images():
    random = torch.Generator().manual_seed(5)
    return torch.randn(3, 7, generator=random), torch.randn(24, 7, generator=random)


def loss_and_gradient(context, loss):
    """Of a linear network, over this rank's part of a batch, as DDP would average it."""
    weights, images = weights_and_images()
    weights.requires_grad_()
    mine = torch.arange(24).view(6, 4)[context.rank :: context.world_size].reshape(-1)
    features, people = context.gather_batch(images[mine] @ weights.T, PEOPLE[mine])
    value = loss(features, people)
    value.backward()
    if context.world_size > 1:
        distributed.all_reduce(weights.grad)
        weights.grad /= context.world_size
    return value.item(), weights.grad.numpy()


@contextmanager
def group(rank, count, folder):
    """Meet the other processes, and yield the context of this one."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-{count}", rank=rank, world_size=count
    )
    yield DistributedContext(rank, count)
    distributed.destroy_process_group()


def run_rank(rank, folder):
    """Compute what the tests compare as one of three processes, and then as one of two."""
    with group(rank, 3, folder) as context:
        save_losses(context, folder)
        save_metrics(context, folder)
        save_exchanged(context, folder)
    if rank < 2:
        with group(rank, 2, folder) as context:
            save_centres(context, folder)
            np.save(f"{folder}/accuracy-{rank}.npy", accuracy(context))
            train_against_time(rank, folder)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The folder in which the processes have saved their results; each starts once."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(run_rank, (str(folder),), nprocs=3)
    return folder


def save_losses(context, folder):
    found = [loss_and_gradient(context, loss) for loss in LOSSES]
    if context.is_main:
        np.savez(
            f"{folder}/losses.npz",
            values=[value for value, _ in found],
            gradients=[gradient for _, gradient in found],
        )


def test_a_loss_over_gathered_embeddings_has_the_gradient_it_has_in_one_process(ranks):
    with np.load(ranks / "losses.npz") as found:
        for index, loss in enumerate(LOSSES):
            value, gradient = loss_and_gradient(DistributedContext(), loss)
            assert found["values"][index] == pytest.approx(value, rel=1e-5)
            assert np.abs(gradient).max() > 0.01
            assert np.allclose(found["gradients"][index], gradient, atol=1e-5)


def losses_and_centres(context, gathered):
    """Of the batches of an epoch, by a network that does not learn."""
    loss = LossConfig(center={"weight": 1.0})
    task = build_task(replace(CONFIG, loss=loss, gather_embeddings=gathered), context)
    network = build_network().eval()
    task.prepare(network)
    found = [task.losses(network, batch) for batch in task.batches(0)]
    triplet, center = ([each[name].item() for each in found] for name in ("triplet", "center"))
    return triplet, center, network.losses["center"].centers.numpy()


def save_centres(context, folder):
    for gathered in (True, False):
        triplet, center, centers = losses_and_centres(context, gathered)
        file = f"{folder}/{gathered}{context.rank}.npz"
        np.savez(file, triplet=triplet, center=center, centers=centers)


def test_triplets_compare_the_whole_batch_where_that_is_asked_for_and_centres_follow_it_always(
    ranks,
):
    triplet, center, centers = losses_and_centres(DistributedContext(), gathered=False)
    assert np.abs(centers).max() > 0.1
    for gathered in (True, False):
        with np.load(ranks / f"{gathered}0.npz") as found:
            is_whole = found["triplet"].tolist() == pytest.approx(triplet, rel=1e-4)
            assert is_whole == gathered
        for rank in (0, 1):  # centres follow all images in any case
            with np.load(ranks / f"{gathered}{rank}.npz") as found:
                assert found["center"].tolist() == pytest.approx(center, rel=1e-4)
                assert np.allclose(found["centers"], centers, atol=1e-5)


def accuracy(context):
    """Of the batches of an epoch, by a network that does not learn."""
    task, network = build_task(context=context), build_network().eval()
    task.prepare(network)
    for batch in task.batches(0):
        task.losses(network, batch)
    return task.training_metrics()["training_accuracy"]


def test_the_accuracy_of_an_epoch_is_that_of_the_images_of_all_ranks(ranks):
    whole = accuracy(DistributedContext())
    assert 0 < whole < 1
    assert [float(np.load(ranks / f"accuracy-{rank}.npy")) for rank in (0, 1)] == [whole, whole]


def validate(context):
    """With random queries and the first names of each ranking, by a network that does not learn."""
    validation = replace(CONFIG.validation, num_queries=5, top_k=3)
    task = build_task(replace(CONFIG, validation=validation), context)
    network = build_network().eval()
    task.prepare(network)
    return task.validate(network)


def save_metrics(context, folder):
    found = validate(context)
    assert bool(found) == context.is_main
    if found:
        Path(folder, "metrics.json").write_text(json.dumps(found))


def test_ranks_validate_together_as_one_process(ranks):
    found, whole = json.loads((ranks / "metrics.json").read_text()), validate(DistributedContext())
    assert found.keys() == whole.keys()
    assert "5 queries used" in found["protocol"]
    assert found["protocol"] == whole["protocol"]
    for name in ("mean_ap", "attribute_accuracy"):
        assert found[name] == whole[name]
    for name in ("validation_loss", "validation_loss_triplet", "validation_loss_attributes"):
        assert found[name] == pytest.approx(whole[name], rel=1e-5)
        assert found[name] > 0


def save_exchanged(context, folder):
    """Exchange numbers, metrics, a batch of several types, and the results of two images."""
    rank, images = context.rank, np.array([7, 8])
    own = context.own_share(images)
    batch = context.gather_batch(
        torch.tensor([rank, -rank]),
        torch.full((2, 2, 1), rank / 3, dtype=torch.bfloat16),
        torch.full((2, 3), rank / 3, dtype=torch.float64),
    )
    exchanged = {
        "numbers": context.broadcast_values(0.1 + rank, 2**53 - rank),
        "metrics": context.broadcast({"protocol": f"of rank {rank}"}),
        "batch": batch,
        "results": context.gather_for_metrics(torch.from_numpy(own)[:, None] * 10, len(images)),
    }
    torch.save(exchanged, f"{folder}/exchanged-{rank}.pt")


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_ranks_exchange_values_of_any_type_though_one_has_no_image_to_validate(ranks, rank):
    exchanged = torch.load(ranks / f"exchanged-{rank}.pt", weights_only=True)
    assert exchanged["numbers"] == (0.1, 2**53)
    assert exchanged["metrics"] == {"protocol": "of rank 0"}
    batch, results = exchanged["batch"], exchanged["results"]
    assert batch[0].tolist() == [0, 0, 1, -1, 2, -2]
    assert torch.equal(batch[1][:, 1, 0], (torch.arange(6) // 2 / 3).bfloat16())
    assert torch.equal(batch[2][:, 2], torch.arange(6).double() // 2 / 3)
    assert (results.tolist() if rank == 0 else results) == ([[70], [80]] if rank == 0 else None)


class CountingContext(DistributedContext):
    """Count the exchanges of numbers."""

    exchanges = 0

    def broadcast_values(self, *values):
        CountingContext.exchanges += 1
        return super().broadcast_values(*values)


def train_against_time(rank, folder):
    """Take steps of 5 ms on rank 0 and of 1 ms on rank 1 until 4 seconds are over."""
    limit = TimeLimit(started=time.time() - rank, seconds=4)
    budget = TimeBudget(
        100_000, first_step=0, limit=limit, validation_images=0, context=CountingContext(rank, 2)
    )
    shares = []
    while (done := budget.step_progress(len(shares))) < 1:
        shares.append(done)
        time.sleep(0.001 if rank else 0.005)
        budget.count_steps(StepWindow(steps=1, images=8, seconds=0.001 if rank else 0.005))
    late = time.time() - limit.end - rank
    assert len(shares) > 100
    assert CountingContext.exchanges <= 12
    np.savez(f"{folder}/shares-{rank}.npz", shares=shares, late=late)


def test_ranks_agree_on_the_progress_by_time_once_a_second(ranks):
    with np.load(ranks / "shares-0.npz") as first, np.load(ranks / "shares-1.npz") as second:
        assert np.array_equal(first["shares"], second["shares"])
        assert (np.diff(first["shares"]) >= 0).all()
        assert len(np.unique(first["shares"].round(2))) >= 4
        assert abs(float(first["late"])) < 1
