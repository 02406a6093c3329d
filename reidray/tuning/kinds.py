"""The kinds of training that a sweep can vary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reidray.config import TrainingConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.sources import Sources
from reidray.data.ingest import IngestedCrops
from reidray.training.run import Learned, Prepared
from reidray.training.run_directory import RunDirectory
from reidray.training.tasks.multitask.prepare import prepare_multitask
from reidray.training.tasks.multitask.train import finish_multitask
from reidray.training.tasks.reid.prepare import prepare_reid
from reidray.training.tasks.reid.train import finish_reid
from reidray.training.trainer import Resources


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
    prepare: Callable[[Any, RunDirectory | None, Sources], Prepared]
    finish: Callable[[Any, Learned, IngestedCrops, Resources], dict[str, Any]]


KINDS = {
    "reid": Kind(
        TrainReidConfig,
        prepare_reid,
        lambda prepared, learned, crops, _: finish_reid(prepared, learned, crops),
    ),
    "multitask": Kind(TrainMultitaskConfig, prepare_multitask, finish_multitask),
}
