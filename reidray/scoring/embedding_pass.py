"""Embed images and predict their attributes in one pass over a pool of Ray actors.

The same images give the same embeddings, bit by bit, on any number of workers and in blocks of any
size: batches are those of `image_batches`, and an actor computes in one thread. Ray Data is not
used: its own processes and imports take a night on two CPUs eight seconds more.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from reidray.errors import UserError
from reidray.models import LoadedModel, NetworkSpec
from reidray.models.registry import build_network
from reidray.nodes import cluster_cpus, cluster_gpus
from reidray.progress import Counter
from reidray.scoring.decoding_task import decode_planned, decode_task
from reidray.scoring.embedder import Embedder, shape_of
from reidray.scoring.image_batches import (
    EmbeddedBatch,
    ImageSet,
    PlannedBatch,
    plan_batches,
    read_batch,
)

CPUS_EACH = 0.5
"""What an actor asks for, so that those of a machine that goes away find a place on another."""

RESTARTS = 4
"""So often a process is started again, and its block done again; then something kills it."""

BLOCKS_EACH = 8
LARGEST_BLOCK = 8
AHEAD = 2
"""Blocks that are given to an actor at once, so that it never waits for the next."""

Reference = Any
"""To what lies in Ray's store. In a list it is not fetched before a task begins."""

Work = Callable[[Sequence[PlannedBatch]], Reference]


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
) -> Iterator[list[EmbeddedBatch]]:
    """Embed images of some sets in one pass; batches come a few at a time, in no order.

    Args:
        model: what embeds.
        sets: the images.
        wanted: of each set the rows to embed.
        pool: the processes.
        known: sorted digests, (N,) S32, of contents that need not be decoded, whatever their name.
    """
    shape = shape_of(model)
    blocks = _in_blocks(plan_batches(sets, wanted), pool.workers * BLOCKS_EACH)
    work = _start(model, pool, [] if known is None else [ray.put(known)])
    under_way: dict[Reference, Work] = {}

    def begin(one: Work) -> None:
        for block in islice(blocks, 1):
            under_way[one(block)] = one

    with Counter("embedding", total=sum(map(len, wanted)), unit="images") as counter:
        for one in work:
            begin(one)
        while under_way:
            (done,), _ = ray.wait(list(under_way))
            begin(under_way.pop(done))
            batches = [read_batch(row, shape) for row in ray.get(done).to_pylist()]
            counter.advance(sum(len(batch.rows) for batch in batches))
            yield batches


def _start(model: LoadedModel, pool: Pool, known: list[Reference]) -> list[Work]:
    """Start the processes.

    Returns:
        What gives a block to a process, as often as each should have blocks at once.
    """
    weights = [ray.put(model.network.state_dict())]
    size = (model.spec.height, model.spec.width)
    decode = ray.remote(num_cpus=1, max_retries=RESTARTS)(decode_task)
    actor = ray.remote(
        num_cpus=0 if pool.on_gpu else CPUS_EACH,
        num_gpus=1 if pool.on_gpu else 0,
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
        scheduling_strategy="SPREAD",
    )(_EmbeddingActor)

    def work_of(embedder: Any) -> Work:
        if pool.on_gpu:
            return lambda block: embedder.embed.remote(decode.remote(block, size, known), weights)
        return lambda block: embedder.decode_and_embed.remote(block, known, weights)

    device = "cuda" if pool.on_gpu else "cpu"
    work = [work_of(actor.remote(model.spec, device)) for _ in range(pool.workers)]
    return work * (AHEAD + (cluster_cpus() // pool.workers if pool.on_gpu else 0))


class _EmbeddingActor:
    """Embeds in a process of its own, in one thread where it has a CPU alone."""

    def __init__(self, spec: NetworkSpec, device: str) -> None:
        torch.set_num_threads(1)
        self._spec, self._device = spec, device
        self._embedder: Embedder | None = None

    def embed(self, decoded: pa.Table, weights: list[Reference]) -> pa.Table:
        """Embed decoded batches; the weights lie in Ray's store."""
        if self._embedder is None:
            network = build_network(self._spec)
            network.load_state_dict(ray.get(weights[0]))
            self._embedder = Embedder(network, self._spec, self._device)
        return self._embedder.embed(decoded)

    def decode_and_embed(
        self, plan: Sequence[PlannedBatch], known: list[Reference], weights: list[Reference]
    ) -> pa.Table:
        """Decode and embed planned batches, one after the other."""
        size = (self._spec.height, self._spec.width)
        return pa.concat_tables(
            self.embed(decoded, weights) for decoded in decode_planned(plan, size, known)
        )


def _in_blocks(plan: list[PlannedBatch], target: int) -> Iterator[list[PlannedBatch]]:
    """The batches in `target` blocks, or in more that are not too large."""
    length = min(LARGEST_BLOCK, -(-len(plan) // target))
    return (plan[start : start + length] for start in range(0, len(plan), length))
