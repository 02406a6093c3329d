"""Decode images in processes of this machine that share the memory of the crops.

Threads would wait for each other's Python code. The processes import no PyTorch, which takes
seconds, nor the main module of the program. They end with this process, however it ends, as each
reads from a socket that then closes.
"""

import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reidray.errors import MachineError
from reidray.inference.image_batches import (
    BATCH_SIZE,
    DecodedBatch,
    Digests,
    ImageBatch,
    decode_batches,
    describe_images,
)
from reidray.progress import SLOW_SECONDS, describe_seconds

log = logging.getLogger("reidray")

MAX_RESTARTS = 4
"""Number of times that a process that died is replaced before the job fails."""

KEPT_BATCHES = 16
"""Batches whose crops stay in memory after they were yielded: 1,024 crops, the largest batch of a
network."""


@dataclass(frozen=True)
class SharedArray:
    """Describe an array in memory that processes share.

    Attributes:
        file: descriptor of the anonymous file of the memory, which a process inherits.
        shape: shape of the array.
        dtype: NumPy's name of the type of its values.
    """

    file: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def allocate(cls, shape: tuple[int, ...], dtype: DTypeLike) -> "SharedArray":
        """Allocate an array of zeros."""
        value_type = np.dtype(dtype)
        file = os.memfd_create("reidray")
        os.ftruncate(file, max(1, int(np.prod(shape)) * value_type.itemsize))
        return cls(file, shape, value_type.str)

    def open(self) -> NDArray[Any]:
        """Map the array into the memory of this process."""
        return np.ndarray(self.shape, self.dtype, mmap.mmap(self.file, 0))


@dataclass(frozen=True)
class DecoderInputs:
    """Hold what each process needs besides the batches.

    Attributes:
        crops: (S, `BATCH_SIZE`, H, W, 3) uint8, places for the crops of S batches.
        known: digests of files that need no crop; None where there are none.
    """

    crops: SharedArray
    known: SharedArray | None

    @property
    def files(self) -> list[int]:
        """Return the descriptors that a process inherits."""
        return [each.file for each in (self.crops, self.known) if each is not None]


@dataclass(frozen=True)
class DecodeTask:
    """Hold a batch to decode.

    Attributes:
        batch: the images.
        slot: the place of its crops, 0 to S - 1.
    """

    batch: ImageBatch
    slot: int


@dataclass(eq=False)
class _Decoder:
    """Hold a process that decodes.

    Attributes:
        process: the process.
        connection: sends tasks to the process and receives batches without their crops.
        tasks: its tasks that have not ended, in the order in which it does them.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    tasks: deque[DecodeTask] = field(default_factory=deque)

    def submit(self, task: DecodeTask) -> None:
        """Send a task. That the process has died is noticed where its answer is received."""
        self.tasks.append(task)
        with suppress(ConnectionError):
            self.connection.send(task)

    def stop(self) -> None:
        """End the process, which may have died before."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


@contextmanager
def start_decoders(
    batches: Sequence[ImageBatch],
    size: tuple[int, int],
    known: Digests | None,
    *,
    num_processes: int,
) -> Iterator[Iterator[DecodedBatch]]:
    """Start processes that decode batches, and stop them at the end of the block.

    Args:
        batches: the images.
        size: height and width of a crop in pixels.
        known: digests of files that need no crop, under any name.
        num_processes: number of processes.

    Yields:
        An iterator of decoded batches, in no order. The crops of a batch may change once
        `KEPT_BATCHES` others are taken. The iterator raises the error of a batch that cannot be
        read, and `MachineError` where processes die again and again.
    """
    ahead = max(2, -(-2 * KEPT_BATCHES // num_processes))
    slots = num_processes * ahead + KEPT_BATCHES
    inputs = DecoderInputs(SharedArray.allocate((slots, BATCH_SIZE, *size, 3), np.uint8), None)
    if known is not None:
        inputs = replace(inputs, known=SharedArray.allocate(known.shape, known.dtype))
        assert inputs.known is not None
        inputs.known.open()[:] = known
    pool = _DecoderPool(inputs, batches, num_processes, ahead)
    try:
        yield pool.decode()
    finally:
        pool.stop()


class _DecoderPool:
    """Give batches to processes, and collect what they decode."""

    def __init__(
        self, inputs: DecoderInputs, batches: Sequence[ImageBatch], num_processes: int, ahead: int
    ) -> None:
        self._inputs, self._ahead = inputs, ahead
        self._crops = inputs.crops.open()
        self._pending = deque(batches)
        self._free = deque(range(len(self._crops)))
        self._restarts = 0
        self._decoders: list[_Decoder] = []
        for _ in range(num_processes):
            self._decoders.append(_start_decoder(inputs))
        self._submit()

    def decode(self) -> Iterator[DecodedBatch]:
        """Yield decoded batches (see `start_decoders`)."""
        kept: deque[int] = deque()
        while any(decoder.tasks for decoder in self._decoders):
            for decoder in self._wait():
                decoded = self._receive(decoder)
                if decoded is None:
                    continue
                if len(kept) == KEPT_BATCHES:
                    self._free.append(kept.popleft())
                kept.append(decoder.tasks.popleft().slot)
                self._submit()
                crops = self._crops[kept[-1], : len(decoded.positions)]
                yield replace(decoded, crops=crops)

    def stop(self) -> None:
        """End the processes and give the memory back."""
        for decoder in self._decoders:
            decoder.stop()
        for file in self._inputs.files:
            os.close(file)

    def _submit(self) -> None:
        """Give each process as many tasks as it should have."""
        for decoder in sorted(self._decoders, key=lambda each: len(each.tasks)):
            while self._pending and self._free and len(decoder.tasks) < self._ahead:
                decoder.submit(DecodeTask(self._pending.popleft(), self._free.popleft()))

    def _wait(self) -> list[_Decoder]:
        """Return the processes that have answered or died, one at least."""
        working = {each.connection: each for each in self._decoders if each.tasks}
        ready = wait(working, SLOW_SECONDS)
        if not ready:
            waiting = [each.tasks[0].batch for each in working.values()]
            log.warning(
                "reading %s: no answer for %s",
                describe_images(waiting),
                describe_seconds(SLOW_SECONDS),
            )
            ready = wait(working)
        return [decoder for connection, decoder in working.items() if connection in ready]

    def _receive(self, decoder: _Decoder) -> DecodedBatch | None:
        """Return the oldest batch of a process, or replace the process where it has died.

        Raises:
            MachineError: processes died too often.
        """
        try:
            answer: DecodedBatch | Exception = decoder.connection.recv()
        except (EOFError, ConnectionError):
            self._replace(decoder)
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _replace(self, decoder: _Decoder) -> None:
        """Start another process for the tasks of one that has died.

        Raises:
            MachineError: processes died too often.
        """
        with suppress(subprocess.TimeoutExpired):
            decoder.process.wait(1)  # its socket closes before it ends
        decoder.stop()
        images = describe_images([decoder.tasks[0].batch])
        died = f"a process that decodes {images} died ({_describe_end(decoder.process)})"
        if self._restarts == MAX_RESTARTS:
            raise MachineError(
                f"embedding: {died}, after {MAX_RESTARTS} others; look for a lack of memory or an "
                "image that no decoder survives, then run the job again"
            )
        self._restarts += 1
        log.warning(
            "embedding: %s; it is started again, %d of %d times", died, self._restarts, MAX_RESTARTS
        )
        other = _start_decoder(self._inputs)
        self._decoders[self._decoders.index(decoder)] = other
        for task in decoder.tasks:
            other.submit(task)


def _start_decoder(inputs: DecoderInputs) -> _Decoder:
    """Start a process that runs `serve`."""
    here, there = socket.socketpair()
    code = f"from {__name__} import serve; serve({there.fileno()})"
    with there:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            pass_fds=[there.fileno(), *inputs.files],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    decoder = _Decoder(process, Connection(here.detach()))
    with suppress(ConnectionError):
        decoder.connection.send(inputs)
    return decoder


def serve(file: int) -> None:
    """Decode the batches that come through a socket, until it closes.

    Args:
        file: descriptor of the socket.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    connection = Connection(file)
    with suppress(EOFError, ConnectionError):
        inputs: DecoderInputs = connection.recv()
        crops = inputs.crops.open()
        known = None if inputs.known is None else inputs.known.open()
        while True:
            connection.send(_decode(connection.recv(), crops, known))


def _decode(
    task: DecodeTask, crops: NDArray[np.uint8], known: Digests | None
) -> DecodedBatch | Exception:
    """Write the crops of a task to their place; return the batch without them, or the error."""
    height, width = crops.shape[2:4]
    try:
        (decoded,) = decode_batches([task.batch], (height, width), known)
    except Exception as error:
        return error
    crops[task.slot, : len(decoded.crops)] = decoded.crops
    return replace(decoded, crops=decoded.crops[:0])


def _describe_end(process: subprocess.Popen[bytes]) -> str:
    """Return how a process ended: its signal or its exit status."""
    status = process.returncode
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
