"""The journal of a run: figures into its directory, progress to the person who waits."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from ray.util.queue import Empty, Queue
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch.utils.tensorboard import SummaryWriter

from reidray.training.loop import StepProgress

log = logging.getLogger("reidray")

METRICS_FILE = "metrics.jsonl"


class Journal:
    """Writes what training tells of itself.

    Attributes:
        records: a row of figures for each epoch, those of earlier parts of the run included.
    """

    def __init__(self, run: Path) -> None:
        self._file = run / METRICS_FILE
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self.records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._board = SummaryWriter(str(run / "tensorboard"))
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("{task.fields[left]} left"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )

    @contextmanager
    def follow(self, queue: Queue) -> Iterator[None]:
        """Write down what arrives in a queue until the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._read, args=(queue, ended), daemon=True)
        with self._bar:
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()
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
                self._bar.update(
                    row,
                    completed=event.done,
                    epoch=event.epoch,
                    pace=f"loss {event.loss:.3f}, {event.images_per_second:,.0f} images/s",
                    left=str(timedelta(seconds=round(event.seconds_left))),
                )
            else:
                self._write(event)

    def _write(self, record: dict[str, Any]) -> None:
        """An epoch's figures: to the file, to TensorBoard, and as a line."""
        self.records.append(record)
        with self._file.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if isinstance(value, int | float):
                self._board.add_scalar(name, value, record["epoch"])
        log.info("%s", _line(record))


def _line(record: dict[str, Any]) -> str:
    """An epoch's figures for a person."""
    parts = [f"epoch {record['epoch']}", f"loss {record['loss']:.3f}"]
    if "mean_ap" in record:
        parts += [f"mAP {record['mean_ap']:.3f}", f"Rank-1 {record['rank1']:.3f}"]
    if "attribute_accuracy" in record:
        majority = record["attribute_majority"]
        parts.append(f"attributes {record['attribute_accuracy']:.3f} (majority {majority:.3f})")
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    parts.append(f"{record['seconds']:.1f} s")
    return ", ".join(parts)
