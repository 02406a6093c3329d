"""Decode and train in this process, without Ray: on one GPU, or on the CPUs of this machine."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.config import TrainingConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.images.crops import CropGroup, CropTable, Indices
from reidray.data.images.decoding import BadImage
from reidray.data.ingest.image_files import ImageFiles
from reidray.errors import UserError
from reidray.inference.decoder_pool import start_decoders
from reidray.inference.image_batches import ImageSet, plan_batches
from reidray.progress import Counter
from reidray.storage.location import Location
from reidray.storage.staging import naming_write_errors, temporary_folder
from reidray.training.distributed_context import DistributedContext
from reidray.training.execution.engine import TrainingPlan
from reidray.training.execution.resources import Resources
from reidray.training.execution.train_job import TrainJob, naming_memory
from reidray.training.loop import Metrics
from reidray.training.runs.checkpoint_files import keep_checkpoint, newest_checkpoint
from reidray.training.runs.run_directory import ADVICE_TO_RESUME
from reidray.training.runs.run_logger import Event, RunLogger
from reidray.training.steps.epoch_progress import StepProgress

USABLE_SHARE = 0.5
"""Share of the free memory of this machine that crops may fill."""


@dataclass(frozen=True)
class LocalCrops:
    """Hold decoded crops in the memory of this process.

    Attributes:
        decoded: (N,) bool, mask of the images that have a crop.
        bad: the images that do not decode, or whose masks do not.
        groups: the crops.
    """

    decoded: NDArray[np.bool_]
    bad: tuple[BadImage, ...]
    groups: tuple[CropGroup, ...] = field(repr=False)

    def open(self) -> CropTable:
        """Return a reader of the crops."""
        return CropTable(self.groups)

    def sample(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """Yield the crops of a few batches of indices.

        Raises:
            KeyError: an index has no crop.
        """
        return self.open().read(batches)


class SingleProcess:
    """Decode and train in this process (see `TrainingEngine`)."""

    def plan(self, config: TrainingConfig, files: ImageFiles) -> TrainingPlan:
        """Return the resources of this process, which keeps the crops in its memory.

        Raises:
            UserError: a setting needs a GPU, or the crops need more memory.
        """
        free = _free_bytes()
        if files.decoded_bytes > USABLE_SHARE * free:
            raise UserError(
                f"{len(files.paths):,} crops take {files.decoded_bytes / 1e9:.2f} GB, more than "
                f"half of the {free / 1e9:.2f} GB of memory that are free: train with Ray, which "
                "can decode them in each epoch, or use smaller crops"
            )
        has_gpu = torch.cuda.is_available()
        if config.use_gpu == "yes" and not has_gpu:
            raise UserError(
                "`use_gpu=yes` and PyTorch finds no GPU: train on CPUs with `use_gpu=no`"
            )
        use_gpu = has_gpu and config.use_gpu != "no"
        return TrainingPlan("resident", Resources(use_gpu, len(os.sched_getaffinity(0))))

    def decode(self, files: ImageFiles, _: Literal["resident", "stream"]) -> LocalCrops:
        """Decode the images of one folder in several processes, and other images in this one."""
        with Counter("decoding", total=len(files.paths), unit="images") as counter:
            decoded = np.zeros(len(files.paths), dtype=np.bool_)
            groups: list[CropGroup] = []
            bad: list[BadImage] = []
            for group, bad_images in _decode(files):
                groups.append(group)
                decoded[group.indices] = True
                bad += bad_images
                counter.advance(len(group.indices) + len(bad_images))
        bad.sort(key=lambda image: image.path)
        return LocalCrops(decoded, tuple(bad), tuple(groups))

    def share(self, labels: Mapping[str, CropLabels]) -> Mapping[str, CropLabels]:
        """Return the labels themselves, as this process is the only one."""
        return labels

    def train(self, job: TrainJob, plan: TrainingPlan, run: Location, logger: RunLogger) -> Path:
        """Train from the last checkpoint of the run, and return the folder of the last one."""
        device = torch.device("cuda" if plan.resources.use_gpu else "cpu")
        with (
            logger.receiving(plan.describe()) as receive,
            naming_memory(),
            _local_copy(newest_checkpoint(run)) as checkpoint,
            temporary_folder() as folder,
        ):
            callback = _RunCallback(receive, run, folder)
            job.run(DistributedContext(device=device), callback, checkpoint)
        last = newest_checkpoint(run)
        assert last is not None  # a training has one epoch at least
        return _download(last) if last.is_remote else Path(last.path)


class _RunCallback:
    """Write progress, metrics and checkpoints into a run directory.

    Args:
        receive: writes an event.
        run: run directory.
        folder: empty folder, in which a checkpoint is written before it is copied.
    """

    def __init__(self, receive: Callable[[Event], None], run: Location, folder: Path) -> None:
        self._run, self._folder = run, folder
        self.on_train_start: Callable[[list[Metrics]], None] = receive
        self.on_progress: Callable[[StepProgress], None] = receive
        self._receive = receive

    def on_epoch_end(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """Write the record of an epoch and its checkpoint.

        Raises:
            MachineError: the disk is full, or the disk or the object store failed.
        """
        self._receive(record)
        with naming_write_errors(f"the checkpoint of epoch {record['epoch']}", ADVICE_TO_RESUME):
            save(self._folder)
            keep_checkpoint(self._run, self._folder)


def _decode(files: ImageFiles) -> Iterator[tuple[CropGroup, list[BadImage]]]:
    """Decode images, and yield the crops and the bad images of each group or batch of them."""
    if isinstance(files.location, Location) and files.masks is None:
        yield from _decode_in_processes(files, files.location)
        return
    for group in files.split_into_groups():
        indices = group.values.to_numpy()
        result = files.decode(indices)
        crops = CropGroup(indices[list(result.kept)], result.crops, result.masks)
        yield crops, list(result.bad)


def _decode_in_processes(
    files: ImageFiles, location: Location
) -> Iterator[tuple[CropGroup, list[BadImage]]]:
    """Decode the images of one folder in a process for each CPU."""
    images = ImageSet("train", location, tuple(files.paths))
    batches = plan_batches(images, np.arange(len(images.paths)))
    processes = min(len(batches), len(os.sched_getaffinity(0)))
    with start_decoders(batches, files.size, None, num_processes=processes) as decoded:
        for each in decoded:
            indices = np.array(each.batch.indices)[each.positions]
            bad = [BadImage(each.batch.paths[place], why) for place, why in each.bad.items()]
            yield CropGroup(indices, each.crops.copy()), bad


def _free_bytes() -> int:
    """Return the memory in bytes that this machine can give without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (free,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(free) * 1024


@contextmanager
def _local_copy(checkpoint: Location | None) -> Iterator[Path | None]:
    """Yield the folder of a checkpoint on this machine; None without a checkpoint."""
    if checkpoint is None or not checkpoint.is_remote:
        yield None if checkpoint is None else Path(checkpoint.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield _copy_files(checkpoint, Path(folder))


def _download(checkpoint: Location) -> Path:
    """Return a new folder, removed at exit, with the files of a checkpoint."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _copy_files(checkpoint, Path(folder))


def _copy_files(checkpoint: Location, folder: Path) -> Path:
    for name in checkpoint.list_files():
        (folder / name).write_bytes(checkpoint.read_bytes(name))
    return folder
