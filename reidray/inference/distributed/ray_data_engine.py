"""Run a model over image files with Ray Data: read, decode, predict and write in its workers.

Nothing that grows with the number of images comes to this process. Ray Data limits the data in
flight, places the work where its input lies, and repeats it after the loss of a process or machine.
Where actors have GPUs, tasks on CPUs decode and write for them. Elsewhere an actor does all of it:
a task more is a process more, which takes some CPU-seconds to start.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Any

import pyarrow as pa
import ray
import ray.data
import torch

from reidray.errors import MachineError
from reidray.inference.decode_tasks import ObjectRef
from reidray.inference.device_buffers import download
from reidray.inference.distributed.embedding_work import (
    EmbeddingWork,
    decode_items,
    receipt_row,
    write_rows,
)
from reidray.inference.distributed.prediction_rows import (
    prediction_rows,
    read_crops,
    with_predictions,
)
from reidray.inference.distributed.tally import start_tally
from reidray.inference.distributed.task_runner import find_cause
from reidray.inference.image_batches import decode_batches
from reidray.inference.inference_settings import InferenceSettings
from reidray.inference.local_engine import predict_decoded
from reidray.inference.prediction_loop import (
    MAX_BATCH_SIZE,
    PreparedNetwork,
    load_network,
    prediction_shape,
)
from reidray.inference.predictions import PredictionShape
from reidray.inference.ray_engine import CPUS_PER_ACTOR, EmbeddingPool
from reidray.models import Architecture, LoadedModel
from reidray.progress import describe_seconds

GPU_ROWS = 4 * MAX_BATCH_SIZE
"""Decoded images that an actor with a GPU takes at a time, so that it copies some while it computes
on others."""

GPU_CALLS = 2
"""Batches of images that an actor with a GPU receives, or sends, beside the one that it embeds."""

WRITE_CPUS = 0.25
"""CPUs that Ray reserves for a task that writes, beside the tasks that decode."""

POLL_SECONDS = 1.0
"""Seconds between two looks at the progress."""


@dataclass(frozen=True)
class WorkerInputs:
    """Hold what the workers of a run share.

    Attributes:
        architecture: description of the network.
        settings: precision, and use of mirror images.
        shape: sizes of the predictions.
        device: device of each actor.
        weights: reference to the state dict of the network.
        known: reference to the keys of the digests of files that need no prediction, or to None.
        work: reference to the `EmbeddingWork`.
        tally: handle of the `Tally` of the run.
    """

    architecture: Architecture[Any]
    settings: InferenceSettings
    shape: PredictionShape
    device: str
    weights: ObjectRef
    known: ObjectRef
    work: ObjectRef
    tally: Any


def embed_with_ray_data(
    model: LoadedModel,
    work: EmbeddingWork,
    known: ObjectRef,
    *,
    settings: InferenceSettings,
    pool: EmbeddingPool,
    stall_minutes: float,
    on_progress: Callable[[int], None],
) -> Iterator[str]:
    """Embed images, and yield the receipts of what the workers have written, in no order.

    Args:
        model: the model.
        work: the images.
        known: reference to the keys of digests that need no prediction, or to None.
        settings: precision, and use of mirror images.
        pool: the largest number of actors, and whether they have GPUs.
        stall_minutes: minutes without progress after which the run ends.
        on_progress: receives the number of images that are embedded, about once a second.

    Raises:
        UserError, MachineError: a worker raised it.
        MachineError: the workers gave no answer.
        OSError: a disk or an object store failed.
    """
    inputs = WorkerInputs(
        model.architecture,
        settings,
        prediction_shape(model),
        pool.device,
        ray.put(model.network.state_dict()),
        known,
        ray.put(work),
        start_tally(),
    )
    dataset = _build_dataset(inputs, len(work.items), pool)
    receipts = (
        receipt
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        for receipt in table["receipt"].to_pylist()
    )
    try:
        yield from _receive(receipts, inputs.tally, stall_minutes * 60, on_progress)
    except ray.exceptions.RayTaskError as error:
        raise find_cause(error) from None


def _build_dataset(inputs: WorkerInputs, num_items: int, pool: EmbeddingPool) -> ray.data.Dataset:
    """Return the pipeline, whose rows are receipts."""
    dataset = ray.data.from_items(
        [{"item": item} for item in range(num_items)], override_num_blocks=num_items
    )
    num_actors = min(pool.num_actors, num_items)
    actors = ray.data.ActorPoolStrategy(
        min_size=1,
        max_size=num_actors,
        initial_size=num_actors,
        max_concurrent_calls_per_actor=GPU_CALLS if pool.use_gpu else None,
    )
    arguments: dict[str, Any] = {
        "compute": actors,
        "fn_constructor_args": (inputs,),
        "batch_format": "pyarrow",
    }
    if not pool.use_gpu:
        return dataset.map_batches(
            DecodingActor, batch_size=None, num_cpus=CPUS_PER_ACTOR, **arguments
        )
    return (
        dataset.map_batches(
            decode_items,
            fn_args=(inputs.architecture.size, inputs.known, inputs.work),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
        )
        .map_batches(PredictingActor, batch_size=GPU_ROWS, num_gpus=1, num_cpus=0, **arguments)
        .map_batches(
            write_rows,
            fn_args=(inputs.work,),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=WRITE_CPUS,
        )
    )


class DecodingActor:
    """Decode, embed and write the images of items in one thread."""

    def __init__(self, inputs: WorkerInputs) -> None:
        torch.set_num_threads(1)
        self._inputs = inputs
        self._network = _build_prepared(inputs)
        self._known, self._work = ray.get(inputs.known), ray.get(inputs.work)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the receipts of some items."""
        size = self._inputs.architecture.size
        for item in table["item"].to_pylist():
            batches = list(self._work.read(self._work.items[item]))
            decoded = decode_batches(batches, size, self._known)
            tables = []
            for results in predict_decoded(self._network, decoded):
                tables.append(prediction_rows(results, self._inputs.shape))
                self._inputs.tally.add.remote(len(tables[-1]))
            yield receipt_row(self._work.write(pa.concat_tables(tables)))


class PredictingActor:
    """Embed decoded images on a GPU."""

    def __init__(self, inputs: WorkerInputs) -> None:
        torch.set_num_threads(1)
        self._inputs = inputs
        self._network = _build_prepared(inputs)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows of decoded images with predictions, those of a forward pass together."""
        length, size = self._network.batch_size, self._inputs.architecture.size
        groups = [rows.slice(start, length) for start in range(0, len(rows), length)]
        found = [read_crops(group, size) for group in groups]
        predicted = download(self._network.predict([crops] for _, crops in found))
        for group, (positions, _), each in zip(groups, found, predicted, strict=True):
            self._inputs.tally.add.remote(len(group))
            yield with_predictions(
                group, positions, each.predictions, each.timing, self._inputs.shape
            )


def _build_prepared(inputs: WorkerInputs) -> PreparedNetwork:
    """Return the network of a run on the device of an actor."""
    weights, device = ray.get(inputs.weights), torch.device(inputs.device)
    return load_network(inputs.architecture, weights, inputs.settings, device)


def _receive(
    receipts: Iterator[str],
    tally: Any,
    stall_seconds: float,
    on_progress: Callable[[int], None],
) -> Iterator[str]:
    """Yield receipts, and report the progress; end the run where there is none for a time.

    Raises:
        MachineError: there was none.
    """
    arrived: Queue[Future[Any]] = Queue()
    end = object()

    def receive() -> None:
        receipt: Any = None
        while receipt is not end:
            answer: Future[Any] = Future()
            try:
                receipt = next(receipts, end)
                answer.set_result(receipt)
            except BaseException as error:
                receipt = end
                answer.set_exception(error)
            arrived.put(answer)

    # A daemon does not keep the process from ending where the workers never answer.
    Thread(target=receive, daemon=True).start()
    last, count = time.monotonic(), 0
    while True:
        try:
            receipt = arrived.get(timeout=min(POLL_SECONDS, stall_seconds)).result()
        except Empty:
            before, count = count, ray.get(tally.read.remote())
            on_progress(count)
            if count != before:
                last = time.monotonic()
            elif time.monotonic() - last > stall_seconds:
                raise MachineError(
                    f"embedding: no answer from the workers for {describe_seconds(stall_seconds)}; "
                    "look for a disk that does not answer, a stopped process or a cluster without "
                    "room, then run the job again: it goes on with what is in the store"
                ) from None
            continue
        last = time.monotonic()
        if receipt is end:
            return
        yield receipt
