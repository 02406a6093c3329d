"""Embed images and predict their attributes in one pass over a pool of Ray actors.

The same images give the same embeddings, bit by bit, on any number of workers and in blocks of any
size: batches are those of `image_batches`, and an actor computes in one thread. Ray Data is not
used: its own processes and imports take a night on two CPUs eight seconds more.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from reidray.cluster_resources import cluster_cpus, cluster_gpus
from reidray.config.scoring import STALL_MINUTES
from reidray.errors import UserError
from reidray.inference.actor_pool import (
    RESTARTS,
    Block,
    Reference,
    Start,
    Task,
    Worker,
    WorkerAddress,
    run_blocks,
)
from reidray.inference.decode_task import decode_planned, decode_task
from reidray.inference.embedder import Embedder, prediction_shape
from reidray.inference.image_batches import (
    BatchPredictions,
    ImageBatch,
    ImageSet,
    plan_batches,
    read_batch,
)
from reidray.models import Architecture, LoadedModel
from reidray.models.factory import build_network
from reidray.progress import Counter

CPUS_EACH = 0.5
"""What an actor asks for, so that those of a machine that goes away find a place on another."""

BLOCKS_EACH = 8
LARGEST_BLOCK = 8
AHEAD = 2
"""Blocks that are given to an actor at once, so that it never waits for the next."""


@dataclass(frozen=True)
class Pool:
    """The embedding processes.

    Attributes:
        workers: how many.
        on_gpu: whether each has a GPU.
    """

    workers: int
    on_gpu: bool


def plan_pool(num_workers: int | None, use_gpu: Literal["auto", "yes", "no"]) -> Pool:
    """The pool that was asked for; by default one worker for each GPU, or each CPU.

    Raises:
        UserError: the cluster cannot place it.
    """
    cpus, gpus = cluster_cpus(), cluster_gpus()
    if use_gpu == "yes" and not gpus:
        raise UserError("--use-gpu yes: the cluster has no GPU; use --use-gpu auto")
    on_gpu = gpus > 0 and use_gpu != "no"
    most = gpus if on_gpu else cpus
    workers = num_workers or most
    if not 1 <= workers <= most:
        raise UserError(
            f"--num-workers {workers}: the cluster has {cpus} CPUs and {gpus} GPUs and can place "
            f"{most} embedding workers; ask for fewer or start a larger cluster"
        )
    return Pool(workers, on_gpu)


def embed_images(
    model: LoadedModel,
    sets: Sequence[ImageSet],
    wanted: Sequence[NDArray[np.int64]],
    pool: Pool,
    known: NDArray[np.bytes_] | None = None,
    stall_minutes: float = STALL_MINUTES,
) -> Iterator[list[BatchPredictions]]:
    """Embed images of some sets in one pass; batches come a few at a time, in no order.

    Args:
        model: what embeds.
        sets: the images.
        wanted: of each set the rows to embed.
        pool: the processes.
        known: sorted digests, (N,) S32, of contents that need not be decoded, whatever their name.
        stall_minutes: a worker that has given no answer for so long is started again, on another
            machine where there is one, and its images are embedded again.

    Raises:
        MachineError: a worker gives no answer though it was started again several times.
    """
    shape = prediction_shape(model)
    blocks = _in_blocks(plan_batches(sets, wanted), pool.workers * BLOCKS_EACH)
    start = _starter(model, pool, [] if known is None else [ray.put(known)])
    at_once = AHEAD + (cluster_cpus() // pool.workers if pool.on_gpu else 0)
    answers = run_blocks(start, pool.workers, at_once, blocks, stall_minutes * 60)
    with Counter("embedding", total=sum(map(len, wanted)), unit="images") as counter:
        for answer in answers:
            batches = [read_batch(row, shape) for row in answer.to_pylist()]
            counter.advance(sum(len(batch.rows) for batch in batches))
            yield batches


def _starter(model: LoadedModel, pool: Pool, known: list[Reference]) -> Start:
    """Return what starts a process."""
    weights = [ray.put(model.network.state_dict())]
    size = (model.architecture.height, model.architecture.width)
    decode = ray.remote(num_cpus=1, max_retries=RESTARTS)(decode_task)
    actor = ray.remote(
        num_cpus=0 if pool.on_gpu else CPUS_EACH,
        num_gpus=1 if pool.on_gpu else 0,
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
    )(_EmbeddingActor)

    def start(strategy: Any) -> Worker:
        embedder = actor.options(scheduling_strategy=strategy).remote(
            model.architecture, "cuda" if pool.on_gpu else "cpu"
        )

        def decode_and_embed(block: Block) -> Task:
            return Task(block, embedder.decode_and_embed.remote(block, known, weights))

        def embed_decoded(block: Block) -> Task:
            decoded = decode.remote(block, size, known)
            return Task(block, embedder.embed_decoded.remote(decoded, weights), (decoded,))

        give = embed_decoded if pool.on_gpu else decode_and_embed
        return Worker(embedder, give, embedder.whereabouts.remote())

    return start


class _EmbeddingActor:
    """Embeds in a process of its own, in one thread where it has a CPU alone."""

    def __init__(self, architecture: Architecture[Any], device: str) -> None:
        torch.set_num_threads(1)
        self._architecture, self._device = architecture, device
        self._embedder: Embedder | None = None

    def whereabouts(self) -> WorkerAddress:
        """Return where this process runs."""
        node = ray.get_runtime_context().get_node_id()
        return WorkerAddress(socket.gethostname(), node, os.getpid())

    @ray.method(num_returns="streaming")  # type: ignore[untyped-decorator]
    def embed_decoded(self, decoded: pa.Table, weights: list[Reference]) -> Iterator[pa.Table]:
        """Embed decoded batches; the weights lie in Ray's store."""
        yield self._embed(decoded, weights)

    @ray.method(num_returns="streaming")  # type: ignore[untyped-decorator]
    def decode_and_embed(
        self, plan: Sequence[ImageBatch], known: list[Reference], weights: list[Reference]
    ) -> Iterator[pa.Table]:
        """Decode and embed planned batches, one after the other."""
        size = (self._architecture.height, self._architecture.width)
        for decoded in decode_planned(plan, size, known):
            yield self._embed(decoded, weights)

    def _embed(self, decoded: pa.Table, weights: list[Reference]) -> pa.Table:
        if self._embedder is None:
            network = build_network(self._architecture)
            network.load_state_dict(ray.get(weights[0]))
            self._embedder = Embedder(network, self._architecture, self._device)
        return self._embedder.embed(decoded)


def _in_blocks(plan: list[ImageBatch], target: int) -> Iterator[list[ImageBatch]]:
    """The batches in `target` blocks, or in more that are not too large."""
    length = min(LARGEST_BLOCK, -(-len(plan) // target))
    return (plan[start : start + length] for start in range(0, len(plan), length))
