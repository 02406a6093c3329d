"""Embed images and predict their attributes in one Ray Data pass over a pool of actors.

The same images give the same embeddings, bit by bit, on any number of workers and in blocks of any
size: batches are those of `image_batches`, and an actor computes in one thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from reidray.scoring.decoding_task import decode_task
from reidray.scoring.embedder import Embedder, shape_of
from reidray.scoring.image_batches import (
    EmbeddedBatch,
    ImageSet,
    plan_batches,
    read_batch,
)

BLOCKS_PER_CPU = 8
LARGEST_BLOCK = 8
CPUS_EACH = 0.5
"""What an actor and a decoding task ask for; both are busy half of the time, one with the other."""


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

    Half a CPU is left for the tasks that decode, or an actor pool would wait for ever.

    Raises:
        UserError: the cluster cannot place it.
    """
    cpus, gpus = cluster_cpus(), cluster_gpus()
    if use_gpu == "yes" and not gpus:
        raise UserError("--use-gpu yes: the cluster has no GPU; use --use-gpu auto")
    on_gpu = gpus > 0 and use_gpu != "no"
    most = int((cpus - CPUS_EACH) / CPUS_EACH)
    most = min(most, gpus) if on_gpu else most
    workers = num_workers or (min(gpus, most) if on_gpu else min(cpus, most))
    if not 1 <= workers <= most:
        raise UserError(
            f"--num-workers {workers}: the cluster has {cpus} CPUs and {gpus} GPUs and can place "
            f"{max(most, 0)} embedding workers; ask for fewer or start a larger cluster"
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
    size = (model.spec.height, model.spec.width)
    shape = shape_of(model)
    plan = _in_blocks(plan_batches(sets, wanted), target=cluster_cpus() * BLOCKS_PER_CPU)
    dataset = (
        ray.data.from_arrow(plan)
        .map_batches(
            decode_task,
            fn_kwargs={"size": size, "known": None if known is None else ray.put(known)},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=CPUS_EACH,
        )
        .map_batches(
            _EmbeddingActor,
            fn_constructor_args=(
                ray.put(model.network.state_dict()),
                model.spec,
                "cuda" if pool.on_gpu else "cpu",
            ),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=pool.workers),
            num_cpus=CPUS_EACH,
            num_gpus=1 if pool.on_gpu else 0,
        )
    )
    with Counter("embedding", total=sum(map(len, wanted)), unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            batches = [read_batch(row, shape) for row in table.to_pylist()]
            counter.advance(sum(len(batch.rows) for batch in batches))
            yield batches


class _EmbeddingActor:
    """Holds an embedder in a process of its own."""

    def __init__(self, weights: "ray.ObjectRef[Any]", spec: NetworkSpec, device: str) -> None:
        torch.set_num_threads(1)
        network = build_network(spec)
        network.load_state_dict(ray.get(weights))
        self._embedder = Embedder(network, spec, device)

    def __call__(self, batches: pa.Table) -> pa.Table:
        return self._embedder.embed(batches)


def _in_blocks(plan: pa.Table, target: int) -> list[pa.Table]:
    """The batches in about `target` blocks."""
    rows = min(LARGEST_BLOCK, -(-len(plan) // target))
    return [plan.slice(start, rows) for start in range(0, len(plan), rows)]
