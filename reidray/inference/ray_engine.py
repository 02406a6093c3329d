"""Run a model over image files on a pool of Ray actors.

The same images give the same predictions, bit by bit, on any number of actors and in blocks of any
size: an actor runs over batches of fixed size and computes in one thread. Ray Data is not used: its
own processes and imports would take a nightly run on two CPUs eight seconds more.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import ray
import torch

from reidray.cluster_resources import cluster_cpus, cluster_gpus
from reidray.config.scoring import STALL_MINUTES
from reidray.errors import UserError
from reidray.inference.actor_pool import (
    MAX_RESTARTS,
    Actor,
    ActorAddress,
    Block,
    BlockTask,
    StartActor,
    run_on_actors,
)
from reidray.inference.decode_tasks import ObjectRef, SharedInputs, decode_block, decode_planned
from reidray.inference.image_batches import BatchPredictions, DecodedBatch, Digests, ImageBatch
from reidray.inference.inference_settings import FULL_PRECISION, InferenceSettings
from reidray.inference.local_engine import predict_decoded
from reidray.inference.prediction_loop import PreparedNetwork, prepare_network
from reidray.models import Architecture, LoadedModel
from reidray.models.factory import build_network
from reidray.progress import Counter

CPUS_PER_ACTOR = 0.5
"""CPUs that Ray reserves for an actor without a GPU: less than one, so that the actors of a node
that goes away fit on another."""

BLOCKS_PER_ACTOR = 8
MAX_BLOCK_LENGTH = 8
BLOCKS_IN_FLIGHT = 2
"""Blocks that an actor has at a time, so that it never waits for the next."""


@dataclass(frozen=True)
class EmbeddingPool:
    """Describe the actors that embed.

    Attributes:
        num_actors: number of actors.
        use_gpu: whether each actor has a GPU.
    """

    num_actors: int
    use_gpu: bool

    @property
    def device(self) -> str:
        """Return the device of each actor."""
        return "cuda" if self.use_gpu else "cpu"


def plan_pool(num_workers: int | None, use_gpu: Literal["auto", "yes", "no"]) -> EmbeddingPool:
    """Return the pool that fits the cluster: by default one actor for each GPU, or each CPU.

    Args:
        num_workers: number of actors; None for as many as the cluster can place.
        use_gpu: "auto" takes GPUs where the cluster has them.

    Raises:
        UserError: the cluster cannot place the actors.
    """
    cpus, gpus = cluster_cpus(), cluster_gpus()
    if use_gpu == "yes" and not gpus:
        raise UserError("`use_gpu=yes`: the cluster has no GPU; use `use_gpu=auto`")
    on_gpu = gpus > 0 and use_gpu != "no"
    max_workers = gpus if on_gpu else cpus
    workers = num_workers or max_workers
    if not 1 <= workers <= max_workers:
        raise UserError(
            f"`num_workers={workers}`: the cluster has {cpus} CPUs and {gpus} GPUs and can place "
            f"{max_workers} embedding workers; ask for fewer or start a larger cluster"
        )
    return EmbeddingPool(workers, on_gpu)


def embed_with_ray(
    model: LoadedModel,
    batches: Sequence[ImageBatch],
    known: Digests | None = None,
    *,
    settings: InferenceSettings = FULL_PRECISION,
    pool: EmbeddingPool,
    stall_minutes: float = STALL_MINUTES,
) -> Iterator[list[BatchPredictions]]:
    """Yield the predictions for batches, a few batches at a time, in no order.

    Args:
        model: the model.
        batches: the images.
        known: digests of files that need no prediction, under any name.
        settings: precision, and use of mirror images.
        pool: the actors.
        stall_minutes: minutes without an answer after which an actor is replaced, on another node
            where there is one, and embeds its images again.

    Raises:
        MachineError: an actor gives no answer although it was replaced several times.
    """
    shared = SharedInputs(
        weights=ray.put(model.network.state_dict()),
        known=None if known is None else ray.put(known),
    )
    # On a GPU the CPUs decode ahead, so that each actor needs as many more blocks.
    decoding = cluster_cpus() // pool.num_actors if pool.use_gpu else 0
    results = run_on_actors(
        _actor_starter(model.architecture, settings, pool, shared),
        num_actors=pool.num_actors,
        blocks=_split_into_blocks(batches, pool.num_actors * BLOCKS_PER_ACTOR),
        blocks_in_flight=BLOCKS_IN_FLIGHT + decoding,
        stall_seconds=stall_minutes * 60,
    )
    total = sum(len(batch.paths) for batch in batches)
    with Counter("embedding", total=total, unit="images") as counter:
        for result in results:
            counter.advance(sum(len(each.batch.paths) for each in result))
            yield result


def _actor_starter(
    architecture: Architecture[Any],
    settings: InferenceSettings,
    pool: EmbeddingPool,
    shared: SharedInputs,
) -> StartActor:
    """Return a function that starts an actor of the pool.

    Where the actors have GPUs, Ray tasks decode each block on CPUs; else an actor decodes itself.
    """
    size = (architecture.height, architecture.width)
    decode = ray.remote(num_cpus=1, max_retries=MAX_RESTARTS)(decode_block)
    actor_class = ray.remote(
        num_cpus=0 if pool.use_gpu else CPUS_PER_ACTOR,
        num_gpus=1 if pool.use_gpu else 0,
        max_restarts=MAX_RESTARTS,
        max_task_retries=MAX_RESTARTS,
    )(EmbeddingActor)

    def start(scheduling_strategy: Any) -> Actor:
        handle = actor_class.options(scheduling_strategy=scheduling_strategy).remote(
            architecture, settings, pool.device
        )

        def submit(block: Block) -> BlockTask:
            if not pool.use_gpu:
                return BlockTask(block, handle.decode_and_embed.remote(block, shared))
            decoded: ObjectRef = decode.remote(block, size, shared)
            return BlockTask(block, handle.embed.remote(decoded, shared), decoded)

        return Actor(handle, submit, handle.address.remote())

    return start


class EmbeddingActor:
    """Embed crops in a process of its own, in one thread where it has only a CPU."""

    def __init__(
        self, architecture: Architecture[Any], settings: InferenceSettings, device: str
    ) -> None:
        torch.set_num_threads(1)
        self._architecture, self._settings = architecture, settings
        self._device = torch.device(device)
        self._network: PreparedNetwork | None = None

    def address(self) -> ActorAddress:
        """Return the host, node and process of this actor."""
        node_id = ray.get_runtime_context().get_node_id()
        return ActorAddress(socket.gethostname(), node_id, os.getpid())

    @ray.method(num_returns="streaming")  # type: ignore[untyped-decorator]
    def embed(
        self, decoded: Sequence[DecodedBatch], shared: SharedInputs
    ) -> Iterator[list[BatchPredictions]]:
        """Yield the predictions of decoded batches, all at once."""
        yield list(chain.from_iterable(self._predict(iter(decoded), shared)))

    @ray.method(num_returns="streaming")  # type: ignore[untyped-decorator]
    def decode_and_embed(
        self, batches: Sequence[ImageBatch], shared: SharedInputs
    ) -> Iterator[list[BatchPredictions]]:
        """Decode batches and yield their predictions, one batch at a time."""
        size = (self._architecture.height, self._architecture.width)
        yield from self._predict(decode_planned(batches, size, shared), shared)

    def _predict(
        self, decoded: Iterator[DecodedBatch], shared: SharedInputs
    ) -> Iterator[list[BatchPredictions]]:
        return predict_decoded(self._load_network(shared), decoded)

    def _load_network(self, shared: SharedInputs) -> PreparedNetwork:
        """Return the network, which the first call builds, so that `address` answers at once.

        Ray cannot restart an actor whose constructor has arguments in the object store, where they
        are lost. So each task has the reference to the weights.
        """
        if self._network is None:
            network = build_network(self._architecture)
            network.load_state_dict(ray.get(shared.weights))
            size = (self._architecture.height, self._architecture.width)
            self._network = prepare_network(network, size, self._settings, self._device)
        return self._network


def _split_into_blocks(
    batches: Sequence[ImageBatch], num_blocks: int
) -> Iterator[Sequence[ImageBatch]]:
    """Yield the batches in `num_blocks` blocks, or in more that are not too long."""
    length = min(MAX_BLOCK_LENGTH, -(-len(batches) // num_blocks))
    return (batches[start : start + length] for start in range(0, len(batches), length))
