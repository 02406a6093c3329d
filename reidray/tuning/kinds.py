"""The kinds of training that a sweep can vary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reidray.config import TrainingConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.sources import Sources
from reidray.data.ingest import CropDataset
from reidray.training.experiment import Experiment, TrainingResult
from reidray.training.ray_trainer import Resources
from reidray.training.runs.run_directory import RunDirectory
from reidray.training.tasks.multitask.prepare import build_multitask_experiment
from reidray.training.tasks.multitask.train import finish_multitask
from reidray.training.tasks.reid.prepare import build_reid_experiment
from reidray.training.tasks.reid.train import finish_reid


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Attributes:
        config: what it may be told.
        prepare: reads and checks what it needs, for a new run directory or one to go on with; what
            nobody asked for is adapted to the data.
        finish: leaves its best epoch as a run directory, and says what was made.
    """

    config: type[TrainingConfig]
    prepare: Callable[[Any, RunDirectory | None, Sources], Experiment]
    finish: Callable[[Any, TrainingResult, CropDataset, Resources], dict[str, Any]]


KINDS = {
    "reid": Kind(
        TrainReidConfig,
        build_reid_experiment,
        lambda experiment, result, crops, _: finish_reid(experiment, result, crops),
    ),
    "multitask": Kind(TrainMultitaskConfig, build_multitask_experiment, finish_multitask),
}
