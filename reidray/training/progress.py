"""The journal of a run: figures into its directory, progress to the person who waits."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

from ray.util.queue import Empty, Queue
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from torch.utils.tensorboard import SummaryWriter

from reidray.data.outputs import write_whole
from reidray.training.loop import Metrics, StepProgress
from reidray.training.run_directory import RunDirectory

log = logging.getLogger("reidray")

METRICS_FILE = "metrics.jsonl"
SHOWN = (
    ("validation_loss", "validation loss"),
    ("mean_ap", "mAP"),
    ("rank1", "Rank-1"),
    ("accuracy", "accuracy"),
    ("mask_f1", "mask F1"),
    ("mask_iou", "mask IoU"),
)
"""The figures of an epoch that are told, where there are such."""


class Journal:
    """Writes what training tells of itself.

    Attributes:
        records: a row of figures for each epoch, those of earlier parts of the run included.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._file = run.folder / METRICS_FILE
        self.records: list[Metrics] = []
        self._board = SummaryWriter(str(run.folder / "tensorboard"))
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("{task.fields[left]} left"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )

    def copy(self, records: list[Metrics]) -> None:
        """Write down a training that has ended elsewhere, by the figures of each epoch."""
        for count in range(1, len(records) + 1):
            self._write(records[:count])
        self._board.close()

    @contextmanager
    def follow(self, queue: Queue) -> Iterator[None]:
        """Write down what arrives in a queue until the block ends."""
        ended = threading.Event()
        with self._bar, ThreadPoolExecutor(1) as thread:
            reading = thread.submit(self._read, queue, ended)
            try:
                yield
            finally:
                ended.set()
            reading.result()
            self._board.close()

    def _read(self, queue: Queue, ended: threading.Event) -> None:
        row = self._bar.add_task("training", total=1.0, epoch="-", pace="", left="")
        while True:
            try:
                event = queue.get(timeout=0.5)
            except Empty:
                if ended.is_set():
                    return
                continue
            if isinstance(event, StepProgress):
                self._show(row, event)
            elif isinstance(event, list):
                self._begin(event)
            else:
                self._write([*self.records, event])
                log.info("%s", _line(event))

    def _show(self, row: TaskID, progress: StepProgress) -> None:
        self._bar.update(
            row,
            completed=progress.done,
            epoch=progress.epoch,
            pace=f"loss {progress.loss:.3f}, {progress.images_per_second:,.0f} images/s",
            left=str(timedelta(seconds=round(progress.seconds_left))),
        )

    def _begin(self, records: list[Metrics]) -> None:
        """Take over the epochs of the checkpoint that training starts from, and no others."""
        self._write(records)
        if records:
            log.info("going on after epoch %d", records[-1]["epoch"])

    def _write(self, records: list[Metrics]) -> None:
        """Put down the epochs so far, in the file and for TensorBoard."""
        self.records = records
        write_whole(self._file, "".join(json.dumps(record) + "\n" for record in records))
        for record in records[-1:]:
            for name, value in record.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, record["epoch"])
        self._board.flush()
        self._run.share()


def _line(record: Metrics) -> str:
    """An epoch's figures for a person."""
    parts = [f"epoch {record['epoch']}", f"loss {record['loss']:.3f}"]
    parts += [f"{name} {record[key]:.3f}" for key, name in SHOWN if key in record]
    if "attribute_accuracy" in record:
        majority = record["attribute_majority"]
        parts.append(f"attributes {record['attribute_accuracy']:.3f} (majority {majority:.3f})")
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    parts.append(f"{record['seconds']:.1f} s, {record['input_wait']:.0%} of it waiting for images")
    return ", ".join(parts)
