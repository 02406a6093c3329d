"""Run a model over image files on a pool of Ray actors.

The same images give the same predictions, bit by bit, on any number of actors and in blocks of any
size: an actor runs over batches of fixed size and computes in one thread. The predictions come to
this process. `distributed.ray_data_engine` leaves them in the workers, for larger sets.
"""

import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import ray
import torch

from reidray.cluster_resources import cluster_capacity, cluster_cpus, wait_for_resources
from reidray.config.scoring import STALL_MINUTES
from reidray.errors import UserError
from reidray.inference.actors.actor_pool import MAX_RESTARTS, run_on_actors
from reidray.inference.actors.pool_slots import Actor, ActorAddress, Block, BlockTask, StartActor
from reidray.inference.decode_tasks import ObjectRef, SharedInputs, decode_block, decode_planned
from reidray.inference.image_batches import (
    BATCH_SIZE,
    BatchPredictions,
    DecodedBatch,
    Digests,
    ImageBatch,
)
from reidray.inference.inference_settings import FULL_PRECISION, InferenceSettings
from reidray.inference.local_engine import predict_decoded
from reidray.inference.prediction_loop import (
    MAX_BATCH_SIZE,
    PreparedNetwork,
    load_network,
)
from reidray.inference.predictions import NO_TIME, LoopTiming
from reidray.models import Architecture, LoadedModel
from reidray.progress import Counter

CPUS_PER_ACTOR = 0.5
"""CPUs that Ray reserves for an actor without a GPU: less than one, so that the actors of a node
that goes away fit on another."""

BLOCKS_PER_ACTOR = 8
BLOCKS_IN_FLIGHT = 2
"""Blocks that an actor has at a time, so that it never waits for the next."""

MAX_BLOCK_LENGTH = 8
GPU_BLOCK_LENGTH = MAX_BATCH_SIZE // BATCH_SIZE
"""Batches in a block for a GPU, which fill the largest forward pass."""

BATCHES_PER_DECODE_TASK = 4
GPU_CALLS = 2
"""Blocks that an actor with a GPU works on at a time, so that it copies one while it computes on
the other."""


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

    Nodes that an autoscaler may start count too. The function waits until one actor has room.

    Args:
        num_workers: number of actors; None for as many as the cluster can place.
        use_gpu: "auto" takes GPUs where the cluster may have them.

    Raises:
        UserError: the cluster can never place the actors, or had no room for one in time.
    """
    capacity = cluster_capacity()
    cpus, gpus = capacity.cpus, capacity.gpus
    if use_gpu == "yes" and not gpus:
        raise UserError("`use_gpu=yes`: the cluster has no GPU; use `use_gpu=auto`")
    on_gpu = gpus > 0 and use_gpu != "no"
    max_workers = gpus if on_gpu else cpus
    workers = num_workers or max_workers
    if not 1 <= workers <= max_workers:
        raise UserError(
            f"`num_workers={workers}`: the cluster {capacity.describe()}, and can place "
            f"{max_workers} embedding workers; ask for fewer or start a larger cluster"
        )
    wait_for_resources([{"CPU": 1}, {"GPU": 1}] if on_gpu else [{"CPU": 1}])
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
        UserError: no actor had resources in time.
        MachineError: actors die or give no answer at the same images again and again.
    """
    shared = SharedInputs(
        weights=ray.put(model.network.state_dict()),
        known=None if known is None else ray.put(known),
    )
    blocks_per_actor, max_length = BLOCKS_PER_ACTOR, MAX_BLOCK_LENGTH
    in_flight = BLOCKS_IN_FLIGHT
    if pool.use_gpu:
        blocks_per_actor, max_length = GPU_CALLS, GPU_BLOCK_LENGTH
        # Beside the blocks of the actor itself, each CPU has two tasks that decode.
        tasks = 2 * cluster_cpus() / pool.num_actors
        in_flight = GPU_CALLS + math.ceil(tasks * BATCHES_PER_DECODE_TASK / max_length)
    num_blocks = pool.num_actors * blocks_per_actor
    blocks = _split(batches, min(max_length, -(-len(batches) // num_blocks)))
    results = run_on_actors(
        _actor_starter(model.architecture, settings, pool, shared),
        num_actors=min(pool.num_actors, len(blocks)),
        blocks=iter(blocks),
        blocks_in_flight=in_flight,
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

    Where the actors have GPUs, Ray tasks decode the parts of a block on CPUs; else an actor decodes
    itself.
    """
    size = architecture.size
    decode = ray.remote(num_cpus=1, max_retries=MAX_RESTARTS)(decode_block)
    actor_class = ray.remote(
        num_cpus=0 if pool.use_gpu else CPUS_PER_ACTOR,
        num_gpus=1 if pool.use_gpu else 0,
        max_restarts=0,  # the pool replaces actors
        max_concurrency=GPU_CALLS if pool.use_gpu else 1,
    )(EmbeddingActor)

    def start(scheduling_strategy: Any) -> Actor:
        handle = actor_class.options(scheduling_strategy=scheduling_strategy).remote(
            architecture, settings, pool.device
        )

        def submit(block: Block) -> BlockTask:
            if not pool.use_gpu:
                return BlockTask(block, handle.decode_and_embed.remote(block, shared))
            decoded: list[ObjectRef] = [
                decode.remote(part, size, shared) for part in _split(block, BATCHES_PER_DECODE_TASK)
            ]
            return BlockTask(block, handle.embed.remote(shared, *decoded), decoded)

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
        self._loading = threading.Lock()
        self._clock = CallClock()

    def address(self) -> ActorAddress:
        """Return the host, node and process of this actor."""
        node_id = ray.get_runtime_context().get_node_id()
        return ActorAddress(socket.gethostname(), node_id, os.getpid())

    @ray.method(num_returns="streaming")  # type: ignore[untyped-decorator]
    def embed(
        self, shared: SharedInputs, *decoded: Sequence[DecodedBatch]
    ) -> Iterator[list[BatchPredictions]]:
        """Yield the predictions of decoded batches, all at once."""
        self._clock.begin_call()
        batches = chain.from_iterable(decoded)
        first, *others = chain.from_iterable(self._predict(batches, shared))
        num_images = sum(len(each.positions) for each in (first, *others))
        timing = self._clock.end_call(num_images)
        yield [replace(first, timing=timing), *(replace(each, timing=NO_TIME) for each in others)]

    @ray.method(num_returns="streaming")  # type: ignore[untyped-decorator]
    def decode_and_embed(
        self, batches: Sequence[ImageBatch], shared: SharedInputs
    ) -> Iterator[list[BatchPredictions]]:
        """Decode batches and yield their predictions, one batch at a time."""
        size = self._architecture.size
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
        with self._loading:
            if self._network is None:
                self._network = load_network(
                    self._architecture, ray.get(shared.weights), self._settings, self._device
                )
        return self._network


class CallClock:
    """Measure the time of an actor that works on several calls at a time, and between calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls, self._waited = 0, 0.0
        self._ended = time.perf_counter()

    def begin_call(self) -> None:
        """Count as waiting the time since the last call, where no other call is under way."""
        with self._lock:
            if not self._calls:
                self._waited = time.perf_counter() - self._ended
            self._calls += 1

    def end_call(self, num_images: int) -> LoopTiming:
        """Return the time since the end of the call that ended before."""
        with self._lock:
            self._calls -= 1
            waited, self._waited = self._waited, 0.0
            before, self._ended = self._ended, time.perf_counter()
            return LoopTiming(num_images, self._ended - before, waited)


def _split(batches: Sequence[ImageBatch], length: int) -> list[Sequence[ImageBatch]]:
    """Return batches in parts of a length; the last may be shorter."""
    return [batches[start : start + length] for start in range(0, len(batches), length)]
