"""Run blocks of images on Ray actors, and replace actors that do not answer.

Ray restarts an actor whose process dies. A process that hangs, because it was stopped or because it
waits for a disk that does not answer, looks alive to Ray. This module notices its silence.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reidray.errors import MachineError, UserError
from reidray.inference.decode_tasks import ObjectRef
from reidray.inference.image_batches import BatchPredictions, ImageBatch, describe_images
from reidray.progress import SLOW_SECONDS, describe_seconds

log = logging.getLogger("reidray")

MAX_RESTARTS = 4
"""Number of times that an actor is started again, with its blocks, before the job fails."""

POLL_SECONDS = 1.0
"""Seconds between two checks for actors that do not answer."""

Block = Sequence[ImageBatch]


@dataclass(frozen=True)
class ActorAddress:
    """Hold the place of an actor's process.

    Attributes:
        host: name of the machine.
        node_id: Ray's name of the machine.
        pid: process id.
    """

    host: str
    node_id: str
    pid: int


@dataclass
class BlockTask:
    """Hold a block that was submitted to an actor.

    Attributes:
        block: the images.
        results: `ray.ObjectRefGenerator` of lists of `BatchPredictions`, in the order of the block.
        decoded: other tasks that the results wait for; none where the actor decodes itself.
        num_received: number of batches whose predictions have arrived.
    """

    block: Block
    results: Any
    decoded: Sequence[ObjectRef] = ()
    num_received: int = 0

    @property
    def remaining(self) -> Block:
        """Return the batches whose predictions have not arrived."""
        return self.block[self.num_received :]


@dataclass(frozen=True)
class Actor:
    """Hold an actor that embeds.

    Attributes:
        handle: `ray.actor.ActorHandle`.
        submit: submits a block to the actor.
        address: reference to its `ActorAddress`, which is there once the actor has started.
    """

    handle: Any
    submit: Callable[[Block], BlockTask]
    address: ObjectRef


StartActor = Callable[[Any], Actor]
"""Starts an actor under a scheduling strategy of Ray."""


@dataclass
class _Slot:
    """Hold one place in the pool, which actors that replace each other fill.

    Attributes:
        actor: the present actor.
        tasks: its blocks that have not ended, in the order of submission, by their results.
        silent_seconds: seconds since its last result, or since it was submitted a block.
        warned: whether a message has warned of the silence.
        restarts: number of times that the actor was replaced.
    """

    actor: Actor
    tasks: dict[Any, BlockTask] = field(default_factory=dict)
    silent_seconds: float = 0.0
    warned: bool = False
    restarts: int = 0

    def submit(self, blocks: Iterator[Block]) -> None:
        """Submit blocks to the actor."""
        for block in blocks:
            task = self.actor.submit(block)
            self.tasks[task.results] = task

    def receive(self, results: Any) -> list[BatchPredictions] | None:
        """Return the next result of a task; None where the task has ended.

        Raises:
            UserError, MachineError: the task raised it.
            RayError: the actor died too often, or its task failed in another way.
        """
        self.silent_seconds, self.warned = 0.0, False
        try:
            result: list[BatchPredictions] = ray.get(next(results))
        except StopIteration:
            del self.tasks[results]
            return None
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError | MachineError):
                raise error.cause from None  # its message is one line
            raise
        self.tasks[results].num_received += len(result)
        return result

    def has_result(self) -> bool:
        """Return whether a result has arrived and was not received yet."""
        return bool(ray.wait(list(self.tasks), timeout=0)[0])


def run_on_actors(
    start: StartActor,
    *,
    num_actors: int,
    blocks: Iterator[Block],
    blocks_in_flight: int,
    stall_seconds: float,
) -> Iterator[list[BatchPredictions]]:
    """Yield the predictions of blocks, in no order.

    Args:
        start: starts an actor.
        num_actors: number of actors.
        blocks: the images.
        blocks_in_flight: blocks that an actor has at a time, so that it never waits for the next.
        stall_seconds: seconds without a result after which an actor is replaced, on another node
            where there is one, and its images are embedded again.

    Raises:
        MachineError: an actor that was replaced `MAX_RESTARTS` times gives no result.
    """
    slots = [_Slot(start("SPREAD")) for _ in range(num_actors)]
    for _ in range(blocks_in_flight):
        for slot in slots:
            slot.submit(islice(blocks, 1))
    checked = time.monotonic()
    while any(slot.tasks for slot in slots):
        slot_of = {results: slot for slot in slots for results in slot.tasks}
        timeout = min(POLL_SECONDS, stall_seconds / 4)
        for results in ray.wait(list(slot_of), timeout=timeout)[0]:
            result = slot_of[results].receive(results)
            if result is None:
                slot_of[results].submit(islice(blocks, 1))
            else:
                yield result
        # Where this process itself was stopped, or slow to store results, the actors were not.
        now = time.monotonic()
        passed, checked = min(now - checked, 5 * POLL_SECONDS), now
        for slot in slots:
            slot.silent_seconds = slot.silent_seconds + passed if slot.tasks else 0.0
            _check_silence(slot, start, stall_seconds)


def _check_silence(slot: _Slot, start: StartActor, stall_seconds: float) -> None:
    """Warn of an actor that gives no result, and replace it after `stall_seconds`.

    Raises:
        MachineError: the actor was replaced `MAX_RESTARTS` times.
    """
    if slot.silent_seconds < min(SLOW_SECONDS, stall_seconds):
        return
    if not slot.tasks or slot.has_result():
        return
    if slot.silent_seconds < stall_seconds:
        if not slot.warned:
            log.warning(
                "embedding: no answer for %s from %s; it is started again after %s",
                describe_seconds(slot.silent_seconds),
                _describe(slot),
                describe_seconds(stall_seconds),
            )
            slot.warned = True
        return
    _replace_actor(slot, start, stall_seconds)


def _replace_actor(slot: _Slot, start: StartActor, stall_seconds: float) -> None:
    """Kill the actor of a slot, start another one and submit to it what has not arrived.

    Raises:
        MachineError: the actor was replaced `MAX_RESTARTS` times.
    """
    address, tasks = _find_address(slot.actor), list(slot.tasks.values())
    silence = f"no answer for {describe_seconds(stall_seconds)} from {_describe(slot)}"
    ray.kill(slot.actor.handle, no_restart=True)
    for task in tasks:
        for decoded in task.decoded:
            ray.cancel(decoded, force=True)
    if slot.restarts == MAX_RESTARTS:
        raise MachineError(
            f"embedding: {silence}, though it was started again {MAX_RESTARTS} times; look for a "
            "disk that does not answer, a stopped process or a cluster without room, then run the "
            "job again"
        )
    slot.restarts += 1
    log.warning(
        "embedding: %s; it is started again, %d of %d times", silence, slot.restarts, MAX_RESTARTS
    )
    slot.actor = start(_avoid_node(address))
    slot.tasks, slot.silent_seconds, slot.warned = {}, 0.0, False
    slot.submit(task.remaining for task in tasks if task.remaining)


def _avoid_node(address: ActorAddress | None) -> Any:
    """Return a scheduling strategy that prefers another node than that of an actor."""
    others = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and address is not None and node["NodeID"] != address.node_id
    ]
    if not others:
        return "SPREAD"
    return NodeAffinitySchedulingStrategy(others[0], soft=True)


def _find_address(actor: Actor) -> ActorAddress | None:
    """Return the address of an actor; None where it has not started."""
    if not ray.wait([actor.address], timeout=0)[0]:
        return None
    address: ActorAddress = ray.get(actor.address)
    return address


def _describe(slot: _Slot) -> str:
    """Return a description of an actor that gives no result, and of its images."""
    address = _find_address(slot.actor)
    who = "a worker that has not started"
    if address is not None:
        who = f"the worker on {address.host} (process {address.pid})"
    block = next(task.remaining or task.block for task in slot.tasks.values())
    return f"{who}, which has {describe_images(block)}"
