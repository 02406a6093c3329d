"""Define the interface of the engines that decode and train: Ray, or this process alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from reidray.config import TrainingConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.image_files import ImageFiles
from reidray.storage.location import Location
from reidray.training.execution.resources import Resources
from reidray.training.execution.train_job import TrainJob
from reidray.training.runs.run_logger import RunLogger


@dataclass(frozen=True)
class TrainingPlan:
    """Hold how a training uses its machines.

    Attributes:
        mode: `resident` keeps the crops in memory; `stream` decodes them in each epoch.
        resources: resources of each training process.
        counts: numbers of training processes that are possible, ascending; one unless the training
            is elastic.
    """

    mode: Literal["resident", "stream"]
    resources: Resources
    counts: tuple[int, ...] = (1,)

    def describe(self) -> str:
        """Return the processes, such as `2 workers x 1 GPU` or `2, 4 or 8 workers x 1 GPU`."""
        least = "".join(f"{count}, " for count in self.counts[:-2])
        least += f"{self.counts[-2]} or " if len(self.counts) > 1 else ""
        return least + self.resources.describe(self.counts[-1])


class TrainingEngine(Protocol):
    """Decode the images of a training, and train."""

    def plan(self, config: TrainingConfig, files: ImageFiles) -> TrainingPlan:
        """Return the ingest mode and the resources of each training process.

        Raises:
            UserError: the machines have no room for the images or the training processes.
        """

    def decode(self, files: ImageFiles, mode: Literal["resident", "stream"]) -> CropDataset:
        """Decode images, or check that they decode."""

    def share(self, labels: Mapping[str, CropLabels]) -> Mapping[str, CropLabels]:
        """Return labels by split of which all training processes of a node use one copy."""

    def train(self, job: TrainJob, plan: TrainingPlan, run: Location, logger: RunLogger) -> Path:
        """Train to the end, from the last checkpoint of the run if it has one.

        Returns:
            The folder of the last checkpoint.

        Raises:
            UserError: the loss is not finite, or the batch does not fit in memory.
        """
