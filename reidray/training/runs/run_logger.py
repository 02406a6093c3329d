"""Write the metrics of a run into its directory, and show its progress on the terminal."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from reidray.progress import Activity, format_duration
from reidray.storage.staging import atomic_write, naming_write_errors
from reidray.training.loop import Metrics
from reidray.training.runs.run_directory import ADVICE_TO_RESUME, METRICS_FILE, RunDirectory
from reidray.training.steps.epoch_progress import StepProgress

log = logging.getLogger("reidray")

Event = list[Metrics] | StepProgress | Metrics | str
"""The records of the epochs before a resume, progress, the record of an epoch, or a log line."""

LOGGED_METRICS = (
    ("training_accuracy", "training accuracy"),
    ("validation_loss", "validation loss"),
    ("mean_ap", "mAP"),
    ("rank1", "Rank-1"),
    ("accuracy", "accuracy"),
    ("mask_f1", "mask F1"),
    ("mask_iou", "mask IoU"),
)
"""Metrics in the log line of an epoch, where the validation has them."""


class TrainingProgress(Activity):
    """Show the progress line of a training, from the start of its workers to their end.

    Args:
        workers: description of the workers, such as `2 workers x 1 GPU`.
        epochs: number of epochs of the training.
    """

    def __init__(self, workers: str, epochs: int) -> None:
        super().__init__(f"starting {workers}")
        self._epochs = epochs
        self._step: StepProgress | None = None
        self._state: str | None = None
        self._state_began = 0.0

    def show_step(self, step: StepProgress) -> None:
        """Show the progress within an epoch."""
        self._step, self._state = step, None
        if step.validating:
            self._begin(f"epoch {step.epoch}/{self._epochs}, validating")

    def show_epoch(self, epoch: int) -> None:
        """Show that an epoch has ended."""
        self._begin(f"epoch {epoch}/{self._epochs} ended")

    def describe(self) -> str:
        """Return the epoch, the loss, the images per second and the time left."""
        if self._state is not None:
            return f"{self._state}, {self.seconds - self._state_began:.0f} s"
        step = self._step
        if step is None:
            return super().describe()
        return (
            f"epoch {step.epoch}/{self._epochs}, {step.epoch_done:.0%} of it, "
            f"loss {step.loss:.3f}, {step.images_per_second:,.0f} images/s, "
            f"{format_duration(max(step.seconds_left, 0))} left"
        )

    def done_share(self) -> float | None:
        """Return the share of the training that is done."""
        return None if self._step is None else self._step.done

    def _begin(self, state: str) -> None:
        self._state, self._state_began = state, self.seconds


class RunLogger:
    """Write the metrics of a run into `metrics.jsonl` and for TensorBoard.

    Args:
        run: run directory.
        epochs: number of epochs of the training.

    Attributes:
        records: losses, metrics and timings of each epoch, also of the epochs before a resume.
    """

    def __init__(self, run: RunDirectory, epochs: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes half a second to import

        self._run, self._epochs = run, epochs
        self._file = run.folder / METRICS_FILE
        self.records: list[Metrics] = []
        self._board = SummaryWriter(str(run.folder / "tensorboard"))

    def write_all(self, records: list[Metrics]) -> None:
        """Write the records of a training that has ended elsewhere."""
        for count in range(1, len(records) + 1):
            self._write(records[:count])
        self._board.close()

    @contextmanager
    def receiving(self, workers: str) -> Iterator[Callable[[Event], None]]:
        """Yield a function that writes the events of a training, and show the progress.

        Args:
            workers: description of the workers, such as `2 workers x 1 GPU`.
        """
        shown = TrainingProgress(workers, self._epochs)
        try:
            with shown:
                yield partial(self._receive, shown)
        finally:
            with naming_write_errors("the metrics", ADVICE_TO_RESUME):
                self._board.close()

    def _receive(self, shown: TrainingProgress, event: Event) -> None:
        if isinstance(event, StepProgress):
            shown.show_step(event)
        elif isinstance(event, str):
            log.info("%s", event)
        elif isinstance(event, list):
            self._begin(event)
        else:
            shown.show_epoch(event["epoch"])
            self._write([*self.records, event])
            log.info("%s", _epoch_line(event, self._epochs))

    def _begin(self, records: list[Metrics]) -> None:
        """Replace the records by those of the checkpoint that the training resumes from."""
        self._write(list(records))
        if records:
            log.info("going on after epoch %d", records[-1]["epoch"])

    def _write(self, records: list[Metrics]) -> None:
        """Write the records of all epochs so far to the file, and the last one for TensorBoard.

        Raises:
            MachineError: the disk is full, or the disk or the object store failed.
        """
        self.records = records
        with naming_write_errors("the metrics", ADVICE_TO_RESUME):
            atomic_write(self._file, "".join(json.dumps(record) + "\n" for record in records))
            for record in records[-1:]:
                for name, value in _iter_scalars(record):
                    self._board.add_scalar(name, value, record["epoch"])
            self._board.flush()
            self._run.upload()


def _iter_scalars(record: Metrics) -> Iterator[tuple[str, float]]:
    """Yield the metrics of an epoch; those of one of several data sets as `mean_ap/NAME`."""
    for name, value in record.items():
        if isinstance(value, int | float):
            yield name, value
    for dataset, metrics in record.get("datasets", {}).items():
        for name, value in metrics.items():
            if isinstance(value, int | float):
                yield f"{name}/{dataset}", value


def _epoch_line(record: Metrics, epochs: int) -> str:
    """Return the log line of an epoch."""
    share = f", {record['epoch_share']:.0%} of it" if "epoch_share" in record else ""
    parts = [f"epoch {record['epoch']}/{epochs}{share}", f"loss {record['loss']:.3f}"]
    parts += [f"{name} {record[key]:.3f}" for key, name in LOGGED_METRICS if key in record]
    by_dataset = record.get("datasets", {}).items()
    parts += [f"mAP of {name} {found['mean_ap']:.3f}" for name, found in by_dataset]
    if "attribute_accuracy" in record:
        majority = record["attribute_majority"]
        parts.append(f"attributes {record['attribute_accuracy']:.3f} (majority {majority:.3f})")
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    parts.append(f"{record['seconds']:.1f} s, {record['input_wait']:.0%} of it waiting for images")
    return ", ".join(parts)
