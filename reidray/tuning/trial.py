"""One trial of a sweep: a training of the recipe under the values it drew."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from reidray.data.ingest import CropDataset
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.training.distributed_context import DistributedContext
from reidray.training.experiment import Experiment
from reidray.training.loop import Metrics, StepProgress
from reidray.training.ray_trainer import Resources, fit, to_local_folder, torch_trainer
from reidray.training.runs.checkpoint_files import repair_checkpoint_list
from reidray.training.worker import CHANGEABLE_ON_RESUME
from reidray.tuning.search_space import with_values
from reidray.tuning.train_callback import JudgedEpochs

MUTABLE = ("augment", "loss", "optimizer")
"""Parts of a configuration that may change while a network trains."""

TRIAL = "trial"
"""Key of an epoch's figures: the id of the trial that trained it."""


@dataclass(frozen=True)
class Trials:
    """What all trials of a sweep share; small enough to be sent to each.

    Attributes:
        experiment: the training that is varied, on the images that decode.
        crops: the images, decoded once for all.
        resources: what each process of a trial is given.
        folder: where Tune keeps each trial, under its id.
        mutates: whether settings change while a network trains.
    """

    experiment: Experiment
    crops: CropDataset
    resources: Resources
    folder: Location
    mutates: bool

    def drawn(self, values: dict[str, Any]) -> Experiment:
        """The training that some values make.

        Raises:
            UserError: the configuration or the images refuse them.
        """
        try:
            config = with_values(self.experiment.config, values)
        except ValueError as error:
            raise UserError(str(error)) from error
        return self.experiment.with_config(config)


def run_trial(values: dict[str, Any], trials: Trials) -> None:
    """Train under some values, from this trial's checkpoint if it has one.

    One process trains here, in Tune's own: Ray Train takes longer to begin than many a short trial
    trains. Several are Ray Train's.

    Raises:
        UserError: the configuration refuses the values, or the loss is not finite.
    """
    experiment = trials.drawn(values)
    job = experiment.train_job(trials.crops, trials.resources, None)
    figure = experiment.config.validation.select_by
    if trials.mutates:
        job = replace(job, changeable=(*CHANGEABLE_ON_RESUME, *MUTABLE))
    if experiment.config.num_workers > 1:
        run = trials.folder.join(tune.get_context().get_trial_id())
        repair_checkpoint_list(run)
        fit(torch_trainer(job, trials.resources, run, callbacks=[JudgedEpochs(figure)]))
        return
    device = torch.device("cuda" if trials.resources.use_gpu else "cpu")
    callback = TrialCallback(figure)
    checkpoint = tune.get_checkpoint()
    job.run(
        DistributedContext(device=device),
        callback,
        to_local_folder(checkpoint) if checkpoint else None,
    )


class TrialCallback:
    """Tells Tune how a trial goes, whenever it was judged.

    Each epoch keeps the id of the trial that trained it: a population copies checkpoints, and what
    Tune knows of the copies ends with a sweep that is killed.
    """

    def __init__(self, figure: str) -> None:
        self._figure = figure

    def begin(self, records: list[Metrics]) -> None:
        """Tune knows of the epochs already done."""

    def step(self, progress: StepProgress) -> None:
        """Tune hears of whole epochs only."""

    def epoch(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """Tell of the epoch, and hand over its checkpoint."""
        record[TRIAL] = tune.get_context().get_trial_id()
        if self._figure not in record:
            return
        figures = {k: v for k, v in record.items() if isinstance(v, int | float)}
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            tune.report(figures, checkpoint=tune.Checkpoint.from_directory(folder))
