"""Hold the places of actors in a pool, the blocks that each has, and their failures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reidray.errors import MachineError, UserError
from reidray.inference.decode_tasks import ObjectRef
from reidray.inference.image_batches import BatchPredictions, ImageBatch, describe_images

LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
)
"""Errors of a process or a machine that went away, or of results that were lost with it."""

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


@dataclass(frozen=True)
class Work:
    """Hold a block that is to be embedded.

    Attributes:
        block: the images.
        failures: number of times that its actor died or hung since its last result.
        failing_since: time of the first of these, by `time.monotonic`.
    """

    block: Block
    failures: int = 0
    failing_since: float = 0.0


@dataclass
class Slot:
    """Hold one place in the pool, which actors that replace each other fill.

    Attributes:
        actor: the present actor; None during the pause before the next one starts.
        has_started: whether the actor has answered.
        tasks: its blocks that have not ended, in the order of submission, by their results.
        work: the work of each task, by its results.
        silent_seconds: seconds since its last result, or since it was submitted a block.
        warned: whether a message has warned of the silence.
        deaths: number of actors that died since the last result.
        start_at: time at which the next actor starts, by `time.monotonic`.
        strategy: scheduling strategy of the next actor.
    """

    actor: Actor | None = None
    has_started: bool = False
    tasks: dict[Any, BlockTask] = field(default_factory=dict)
    work: dict[Any, Work] = field(default_factory=dict)
    silent_seconds: float = 0.0
    warned: bool = False
    deaths: int = 0
    start_at: float = 0.0
    strategy: Any = "SPREAD"

    def submit(self, work: Work) -> None:
        """Submit a block to the actor."""
        assert self.actor is not None
        task = self.actor.submit(work.block)
        self.tasks[task.results], self.work[task.results] = task, work

    def receive(self, results: Any) -> list[BatchPredictions] | None:
        """Return the next result of a task; None where the task has ended.

        Raises:
            UserError, MachineError: the task raised it.
            RayError: the actor died, or its task failed in another way.
        """
        self.silent_seconds, self.warned = 0.0, False
        try:
            result: list[BatchPredictions] = ray.get(next(results))
        except StopIteration:
            del self.tasks[results], self.work[results]
            return None
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError | MachineError):
                raise error.cause from None  # its message is one line
            if isinstance(error.cause, LOST):  # a decoded part was lost
                raise error.cause from None
            raise
        self.tasks[results].num_received += len(result)
        self.deaths = 0
        return result

    def has_result(self) -> bool:
        """Return whether a result has arrived and was not received yet."""
        return bool(ray.wait(list(self.tasks), timeout=0)[0])

    def end(self) -> list[Work]:
        """End the actor, and return the work that it has not done."""
        assert self.actor is not None
        ray.kill(self.actor.handle, no_restart=True)
        now, left = time.monotonic(), []
        for results, task in self.tasks.items():
            for decoded in task.decoded:
                ray.cancel(decoded, force=True)
            before = self.work[results]
            goes_on = before.failures and not task.num_received
            if task.remaining:
                left.append(
                    Work(
                        task.remaining,
                        before.failures + 1 if goes_on else 1,
                        before.failing_since if goes_on else now,
                    )
                )
        self.actor, self.has_started = None, False
        self.tasks, self.work = {}, {}
        self.silent_seconds, self.warned = 0.0, False
        return left


def avoid_node(address: ActorAddress | None) -> Any:
    """Return a scheduling strategy that prefers another node than that of an actor."""
    others = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and address is not None and node["NodeID"] != address.node_id
    ]
    if not others:
        return "SPREAD"
    return NodeAffinitySchedulingStrategy(others[0], soft=True)


def find_address(slot: Slot) -> ActorAddress | None:
    """Return the address of a slot's actor; None where it has not started."""
    if slot.actor is None or not slot.has_started:
        return None
    address: ActorAddress = ray.get(slot.actor.address)
    return address


def describe_silent(slot: Slot) -> str:
    """Return a description of an actor that gives no result, and of its images."""
    address = find_address(slot)
    assert address is not None  # only actors that have started have images
    tasks = list(slot.tasks.values())
    block = next((task.remaining for task in tasks if task.remaining), tasks[0].block)
    who = f"the worker on {address.host} (process {address.pid})"
    return f"{who}, which has {describe_images(block)}"
