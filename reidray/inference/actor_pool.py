"""Workers that embed blocks of images, and are started again where they do not answer.

A process that dies is started again by Ray. One that hangs, since it was stopped or waits for a
disk that does not answer, looks alive to Ray: its silence is noticed here.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reidray.errors import MachineError
from reidray.inference.image_batches import ImageBatch, describe_images
from reidray.progress import SLOW_SECONDS, describe_seconds

log = logging.getLogger("reidray")

RESTARTS = 4
"""So often a process is started again, and its blocks done again; then something is wrong."""

LOOK_SECONDS = 1.0
"""Between two looks for workers that do not answer."""

Reference = Any
"""To what lies in Ray's store. In a list it is not fetched before a task begins."""

Block = Sequence[ImageBatch]


@dataclass(frozen=True)
class WorkerAddress:
    """Name the machine and process of a worker."""

    host: str
    node: str
    process: int


@dataclass
class Task:
    """A block that a worker has been given.

    Attributes:
        block: the images.
        answers: of Ray, a generator of tables with a row for each batch, in the block's order.
        parts: other tasks that the answers wait for.
        answered: how many of the batches have come back.
    """

    block: Block
    answers: Any
    parts: tuple[Reference, ...] = ()
    answered: int = 0

    @property
    def left(self) -> Block:
        """The batches that have not come back."""
        return self.block[self.answered :]


@dataclass(frozen=True)
class Worker:
    """A process that embeds.

    Attributes:
        actor: its handle.
        give: gives it a block.
        whereabouts: where it runs, once it has started.
    """

    actor: Any
    give: Callable[[Block], Task]
    whereabouts: Reference


Start = Callable[[Any], Worker]
"""Starts a worker under a scheduling strategy of Ray."""


@dataclass
class _Slot:
    """A worker's place in the pool.

    Attributes:
        worker: the process that has the place now.
        tasks: what it was given and has not ended, in this order, by the answers.
        silent: seconds since it answered, or was given work.
        told: whether a line has said that it does not answer.
        restarts: how often it was started again.
    """

    worker: Worker
    tasks: dict[Any, Task] = field(default_factory=dict)
    silent: float = 0.0
    told: bool = False
    restarts: int = 0

    def give(self, blocks: Iterator[Block]) -> None:
        """Give the worker some blocks."""
        for block in blocks:
            task = self.worker.give(block)
            self.tasks[task.answers] = task

    def take(self, answers: Any) -> pa.Table | None:
        """Take an answer that is there; None where it was the task's last, and the task has ended.

        Raises:
            RayError: the worker died too often, or its task failed.
        """
        self.silent, self.told = 0.0, False
        try:
            answer = ray.get(next(answers))
        except StopIteration:
            del self.tasks[answers]
            return None
        self.tasks[answers].answered += answer.num_rows
        return answer

    def is_waiting(self) -> bool:
        """Tell whether none of the answers is there."""
        return bool(self.tasks) and not ray.wait(list(self.tasks), timeout=0)[0]


def run_blocks(
    start: Start, workers: int, at_once: int, blocks: Iterator[Block], stall_seconds: float
) -> Iterator[pa.Table]:
    """Have workers embed blocks; answers come in no order.

    Args:
        start: starts a worker.
        workers: how many.
        at_once: blocks that a worker is given at once, so that it never waits for the next.
        blocks: the images.
        stall_seconds: a worker that has given no answer for so long is started again, on another
            machine where there is one, and its images are embedded again.

    Raises:
        MachineError: a worker that was started again `RESTARTS` times does not answer.
    """
    slots = [_Slot(start("SPREAD")) for _ in range(workers)]
    for _ in range(at_once):
        for slot in slots:
            slot.give(islice(blocks, 1))
    looked = time.monotonic()
    while any(slot.tasks for slot in slots):
        slot_of = {answers: slot for slot in slots for answers in slot.tasks}
        for answers in ray.wait(list(slot_of), timeout=min(LOOK_SECONDS, stall_seconds / 4))[0]:
            answer = slot_of[answers].take(answers)
            if answer is None:
                slot_of[answers].give(islice(blocks, 1))
            else:
                yield answer
        # Where this process itself was stopped, or slow to store answers, the workers were not.
        now = time.monotonic()
        passed, looked = min(now - looked, 5 * LOOK_SECONDS), now
        for slot in slots:
            slot.silent = slot.silent + passed if slot.tasks else 0.0
            _look_at(slot, start, stall_seconds)


def _look_at(slot: _Slot, start: Start, stall_seconds: float) -> None:
    """Tell of a worker that does not answer, and start it again where it has not for too long."""
    if slot.silent < min(SLOW_SECONDS, stall_seconds) or not slot.is_waiting():
        return
    if slot.silent < stall_seconds:
        if not slot.told:
            log.warning(
                "embedding: no answer for %s from %s; it is started again after %s",
                describe_seconds(slot.silent),
                _describe(slot),
                describe_seconds(stall_seconds),
            )
            slot.told = True
        return
    where, tasks = _whereabouts(slot.worker), list(slot.tasks.values())
    silence = f"no answer for {describe_seconds(stall_seconds)} from {_describe(slot)}"
    ray.kill(slot.worker.actor, no_restart=True)
    for task in tasks:
        for part in task.parts:
            ray.cancel(part, force=True)
    if slot.restarts == RESTARTS:
        raise MachineError(
            f"embedding: {silence}, though it was started again {RESTARTS} times; look for a "
            "disk that does not answer, a stopped process or a cluster without room, then run the "
            "job again"
        )
    slot.restarts += 1
    log.warning(
        "embedding: %s; it is started again, %d of %d times", silence, slot.restarts, RESTARTS
    )
    slot.worker = start(_elsewhere(where))
    slot.tasks, slot.silent, slot.told = {}, 0.0, False
    slot.give(task.left for task in tasks if task.left)


def _elsewhere(where: WorkerAddress | None) -> Any:
    """Return the scheduling strategy of a worker that shall run on another machine if it can."""
    others = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and where is not None and node["NodeID"] != where.node
    ]
    if not others:
        return "SPREAD"
    return NodeAffinitySchedulingStrategy(others[0], soft=True)


def _whereabouts(worker: Worker) -> WorkerAddress | None:
    """Return where a worker runs; None where it has not started."""
    if not ray.wait([worker.whereabouts], timeout=0)[0]:
        return None
    found: WorkerAddress = ray.get(worker.whereabouts)
    return found


def _describe(slot: _Slot) -> str:
    """Return who does not answer, and on which images."""
    where = _whereabouts(slot.worker)
    who = "a worker that has not started"
    if where is not None:
        who = f"the worker on {where.host} (process {where.process})"
    block = next(task.left or task.block for task in slot.tasks.values())
    return f"{who}, which has {describe_images(block)}"
