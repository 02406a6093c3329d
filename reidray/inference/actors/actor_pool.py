"""Run blocks of images on Ray actors, and replace actors that die or do not answer.

A machine that goes away refuses connections for about 15 seconds until Ray declares it dead. An
actor that Ray restarts uses up its restarts and the retries of its tasks in that time. So this
module itself replaces actors, with growing intervals, and counts the losses of a block in time.
A process that hangs, because it was stopped or because it waits for a disk that does not answer,
looks alive to Ray. This module notices its silence.

Blocks go to actors that have started, so that none waits for an actor without resources.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import ray

from reidray.cluster_resources import find_waits, no_room_error, patience
from reidray.errors import MachineError
from reidray.inference.actors.pool_slots import (
    LOST,
    Block,
    Slot,
    StartActor,
    Work,
    avoid_node,
    describe_silent,
    find_address,
)
from reidray.inference.image_batches import BatchPredictions, describe_images
from reidray.progress import SLOW_SECONDS, describe_seconds

log = logging.getLogger("reidray")

MAX_RESTARTS = 4
"""Number of times that a block is embedded again, after its actor died or did not answer before the
first of its results, until the job fails."""

MIN_LOSS_SECONDS = 60.0
"""Seconds for which a block must be lost again and again before the job fails. Ray declares a
machine dead after about 15 seconds without an answer."""

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 16.0
"""Pauses before an actor that died is replaced: each is twice the one before."""

POLL_SECONDS = 1.0
"""Seconds between two checks for actors that do not answer."""


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
        num_actors: number of actors. The first that have resources begin.
        blocks: the images.
        blocks_in_flight: blocks that an actor has at a time, so that it never waits for the next.
        stall_seconds: seconds without a result after which an actor is replaced, on another node
            where there is one, and its images are embedded again.

    Raises:
        UserError: no actor had resources within the patience of the job.
        MachineError: actors die or hang at the same images again and again.
    """
    pool = _Pool(start, blocks, blocks_in_flight, stall_seconds)
    pool.slots = [Slot() for _ in range(num_actors)]
    try:
        yield from pool.run()
    finally:
        pool.end()


@dataclass
class _Pool:
    """Hold the slots of a pool, and the blocks that none of them has.

    Attributes:
        start: starts an actor.
        blocks: blocks that were never submitted.
        in_flight: blocks that an actor has at a time.
        stall_seconds: seconds without a result after which an actor is replaced.
        slots: places of the actors.
        returned: work of actors that died or hung.
        next_block: the next of `blocks`; None where none is left.
        idle_seconds: seconds for which no actor has been alive.
    """

    start: StartActor
    blocks: Iterator[Block]
    in_flight: int
    stall_seconds: float
    slots: list[Slot] = field(default_factory=list)
    returned: deque[Work] = field(default_factory=deque)
    next_block: Block | None = None
    idle_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.next_block = next(self.blocks, None)

    def run(self) -> Iterator[list[BatchPredictions]]:
        """Yield the predictions of all blocks."""
        checked = time.monotonic()
        while self.has_work():
            self.start_actors()
            self.distribute()
            yield from self.receive(min(POLL_SECONDS, self.stall_seconds / 4))
            # Where this process itself was stopped, or slow to store results, the actors were not.
            now = time.monotonic()
            passed, checked = min(now - checked, 5 * POLL_SECONDS), now
            for slot in self.slots:
                self.check_silence(slot, passed)
            self.check_start(passed)

    def end(self) -> None:
        """End all actors now: an error whose traceback holds them may be kept for long."""
        if not ray.is_initialized():
            return  # the actors have ended with the connection
        for slot in self.slots:
            if slot.actor is not None:
                slot.end()

    def has_work(self) -> bool:
        """Return whether results are still to come."""
        return self._has_waiting() or any(slot.tasks for slot in self.slots)

    def _has_waiting(self) -> bool:
        return bool(self.returned) or self.next_block is not None

    def start_actors(self) -> None:
        """Start an actor in each slot without one whose pause is over, while there is work."""
        if not self._has_waiting():
            return
        now = time.monotonic()
        for slot in self.slots:
            if slot.actor is None and now >= slot.start_at:
                slot.actor = self.start(slot.strategy)

    def distribute(self) -> None:
        """Submit blocks to the actors that have started, one at a time each."""
        started = [slot for slot in self.slots if slot.has_started]
        for count in range(self.in_flight):
            for slot in started:
                if len(slot.tasks) <= count and self._has_waiting():
                    slot.submit(self._take())

    def _take(self) -> Work:
        if self.returned:
            return self.returned.popleft()
        assert self.next_block is not None
        block, self.next_block = self.next_block, next(self.blocks, None)
        return Work(block)

    def receive(self, timeout: float) -> Iterator[list[BatchPredictions]]:
        """Yield the results that arrive within a time, and note the actors that start or die."""
        slot_of = {results: slot for slot in self.slots for results in slot.tasks}
        starting = {
            slot.actor.address: slot
            for slot in self.slots
            if slot.actor is not None and not slot.has_started
        }
        waiting = [*slot_of, *starting]
        if not waiting:
            time.sleep(timeout)
            return
        for ready in ray.wait(waiting, timeout=timeout)[0]:
            slot = slot_of.get(ready) or starting[ready]
            if slot.actor is None:
                continue  # another of its tasks has failed
            try:
                if ready in starting:
                    ray.get(ready)
                    slot.has_started, slot.silent_seconds = True, 0.0
                    continue
                result = slot.receive(ready)
            except LOST as error:
                if getattr(error, "actor_init_failed", False):
                    raise
                self._replace_dead(slot, error)
                continue
            if result is not None:
                yield result
            elif self._has_waiting():
                slot.submit(self._take())

    def _replace_dead(self, slot: Slot, error: Exception) -> None:
        """Give back the work of an actor that died, and start another one after a pause.

        Raises:
            MachineError: actors died too often at the same images, for too long.
        """
        address = find_address(slot)
        who = "a worker" if address is None else f"the worker on {address.host}"
        reason = " ".join(str(error).split(". ")[0].split())[:200]
        for work in self._give_back(slot):
            lasted = time.monotonic() - work.failing_since
            if work.failures > MAX_RESTARTS and lasted >= MIN_LOSS_SECONDS:
                raise MachineError(
                    f"embedding: workers died {work.failures} times within "
                    f"{describe_seconds(lasted)} at {describe_images(work.block)} ({reason}); look "
                    "for an image that takes too much memory, or for machines that go away, then "
                    "run the job again"
                ) from error
        pause = min(FIRST_PAUSE_SECONDS * 2**slot.deaths, MAX_PAUSE_SECONDS)
        slot.deaths += 1
        slot.start_at, slot.strategy = time.monotonic() + pause, avoid_node(address)
        log.warning(
            "embedding: %s died (%s); others embed its images, and it is started again in %s",
            who,
            reason,
            describe_seconds(pause),
        )

    def _give_back(self, slot: Slot) -> list[Work]:
        left = slot.end()
        self.returned.extendleft(reversed(left))
        return left

    def check_silence(self, slot: Slot, passed: float) -> None:
        """Warn of an actor that gives no result, and replace it after `stall_seconds`.

        Raises:
            MachineError: actors gave no result for the same images too often.
        """
        slot.silent_seconds = slot.silent_seconds + passed if slot.tasks else 0.0
        if slot.silent_seconds < min(SLOW_SECONDS, self.stall_seconds):
            return
        if not slot.tasks or slot.has_result():
            return
        if slot.silent_seconds < self.stall_seconds:
            if not slot.warned:
                log.warning(
                    "embedding: no answer for %s from %s; it is started again after %s",
                    describe_seconds(slot.silent_seconds),
                    describe_silent(slot),
                    describe_seconds(self.stall_seconds),
                )
                slot.warned = True
            return
        silence = (
            f"no answer for {describe_seconds(self.stall_seconds)} from {describe_silent(slot)}"
        )
        address = find_address(slot)
        failures = max((work.failures for work in self._give_back(slot)), default=1)
        if failures > MAX_RESTARTS:
            raise MachineError(
                f"embedding: {silence}, though it was started again {MAX_RESTARTS} times; look for "
                "a disk that does not answer, a stopped process or a cluster without room, then "
                "run the job again"
            )
        log.warning(
            "embedding: %s; it is started again, %d of %d times", silence, failures, MAX_RESTARTS
        )
        slot.start_at, slot.strategy = time.monotonic(), avoid_node(address)

    def check_start(self, passed: float) -> None:
        """Check that an actor starts before the patience of the job ends.

        Raises:
            UserError: no actor had resources.
            MachineError: actors had resources, and did not start.
        """
        is_idle = not any(slot.has_started for slot in self.slots) and self._has_waiting()
        self.idle_seconds = self.idle_seconds + passed if is_idle else 0.0
        if self.idle_seconds < max(patience(), MIN_LOSS_SECONDS if self.returned else 0.0):
            return
        needed = find_waits()
        if needed:
            raise no_room_error(needed)
        if self.idle_seconds >= max(self.stall_seconds, patience()):
            raise MachineError(
                f"embedding: no worker started within {describe_seconds(self.idle_seconds)}; look "
                "for a disk that does not answer or a machine that is too busy, then run the job "
                "again"
            )
