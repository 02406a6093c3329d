"""Run one trial of a sweep: a training with the parameters that the sweep drew."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from reidray.data.ingest.crop_dataset import CropDataset
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.training.distributed_context import DistributedContext
from reidray.training.execution.ray_trainer import build_trainer, run_trainer, to_local_folder
from reidray.training.execution.resources import Resources
from reidray.training.execution.train_job import CHANGEABLE_ON_RESUME
from reidray.training.experiment import Experiment
from reidray.training.loop import Metrics
from reidray.training.runs.checkpoint_files import repair_checkpoint_list
from reidray.training.steps.epoch_progress import StepProgress
from reidray.tuning.search_space import with_values
from reidray.tuning.train_callback import EvaluatedEpochCallback

MUTABLE_SECTIONS = ("augment", "loss", "optimizer")
"""Sections of a configuration that may change during training."""

TRIAL_KEY = "trial"
"""Key in the metrics of an epoch: the id of the trial that trained it."""


@dataclass(frozen=True)
class TrialContext:
    """Hold the images and settings that all trials share. Ray sends it to each trial.

    Attributes:
        experiment: the training that the sweep varies, without bad images.
        crops: the decoded images, by their height and width.
        resources: the resources of each training process.
        folder: Ray Tune's folder, with one folder per trial, named after its id.
        is_population: whether parameters change during training (population based training).
    """

    experiment: Experiment
    crops: Mapping[tuple[int, int], CropDataset]
    resources: Resources
    folder: Location
    is_population: bool

    def with_parameters(self, parameters: dict[str, Any]) -> Experiment:
        """Return the experiment with other parameters.

        Raises:
            UserError: the configuration, the images or the network do not allow them.
        """
        try:
            config = with_values(self.experiment.config, parameters)
        except ValueError as error:
            raise UserError(str(error)) from error
        return self.experiment.with_config(config)

    def crops_of(self, experiment: Experiment) -> CropDataset:
        """Return the crops in the input size of an experiment."""
        return self.crops[experiment.architecture.size]


def run_trial(parameters: dict[str, Any], context: TrialContext) -> None:
    """Train with some parameters, from the checkpoint of the trial if it has one.

    A trial of one process trains in Ray Tune's own process, because the start of Ray Train can take
    longer than a short trial. Ray Train runs trials of several processes.

    Raises:
        UserError: the configuration does not allow the parameters, or the loss is not finite.
    """
    experiment = context.with_parameters(parameters)
    job = experiment.train_job(context.crops_of(experiment), context.resources, None)
    metric = experiment.config.validation.select_by
    if context.is_population:
        job = replace(job, changeable=(*CHANGEABLE_ON_RESUME, *MUTABLE_SECTIONS))
    if experiment.config.workers > 1:
        run = context.folder.join(tune.get_context().get_trial_id())
        repair_checkpoint_list(run)
        callbacks = [EvaluatedEpochCallback(metric)]
        trainer = build_trainer(job, context.resources, run, callbacks=callbacks)
        run_trainer(trainer)
        return
    device = torch.device("cuda" if context.resources.use_gpu else "cpu")
    checkpoint = tune.get_checkpoint()
    job.run(
        DistributedContext(device=device),
        TrialCallback(metric),
        to_local_folder(checkpoint) if checkpoint else None,
    )


class TrialCallback:
    """Report evaluated epochs and their checkpoints to Ray Tune.

    The metrics of each epoch keep the id of the trial that trained it. Population based training
    copies checkpoints between trials, and a sweep that is killed loses Ray Tune's record of it.

    Args:
        metric: the key of the metric that evaluated epochs have.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric

    def on_train_start(self, records: list[Metrics]) -> None:
        """Do nothing, as Ray Tune knows the epochs of the checkpoint."""

    def on_progress(self, progress: StepProgress) -> None:
        """Do nothing, as Ray Tune records whole epochs."""

    def on_epoch_end(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """Report an evaluated epoch and its checkpoint."""
        record[TRIAL_KEY] = tune.get_context().get_trial_id()
        if self._metric not in record:
            return
        metrics = {k: v for k, v in record.items() if isinstance(v, int | float)}
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
