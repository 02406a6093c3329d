"""Train from a configuration to a run directory: the steps of every training, in their order."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa
import yaml

from reidray.config import TrainingConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.sections.open_section import config_to_dict, default_settings
from reidray.config.sources import Sources
from reidray.data.augmentations import AUGMENTATIONS
from reidray.data.ids import id_name_files
from reidray.data.images.decoding import check_bad_images
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.layouts import read_manifest
from reidray.data.stored_rows import release_freed_memory
from reidray.errors import MachineError, UserError
from reidray.losses import LOSSES
from reidray.models.architecture import Architecture
from reidray.models.directory import MODEL_FILES, save_model
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.storage.staging import (
    atomic_folder,
    atomic_write,
    check_replaceable,
    naming_write_errors,
)
from reidray.training.batch_search import with_largest_batch
from reidray.training.checkpoint import check_settings
from reidray.training.execution.engine import TrainingEngine
from reidray.training.execution.resources import Resources, check_gpu_settings
from reidray.training.execution.train_job import resume_settings
from reidray.training.experiment import (
    DecodedExperiment,
    Experiment,
    TaskDefinition,
    TrainingResult,
    check_architecture,
)
from reidray.training.first_weights import (
    WEIGHTS_REPORT,
    FirstWeights,
    read_weights_report,
)
from reidray.training.runs.checkpoint_files import (
    CHECKPOINTS,
    has_checkpoints,
    newest_checkpoint,
    read_state,
)
from reidray.training.runs.run_directory import (
    ADVICE_TO_RESUME,
    CONFIG_FILE,
    REPORT_FILE,
    RUN_FILES,
    RunDirectory,
    TrainingRun,
    new_run,
)
from reidray.training.runs.run_logger import RunLogger
from reidray.training.tasks.multitask.definition import MULTITASK
from reidray.training.tasks.network_choice import adaptation_notes
from reidray.training.tasks.reid.definition import REID
from reidray.training.time_budget import TimeLimit

log = logging.getLogger("reidray")

TASKS: dict[type[TrainingConfig], TaskDefinition] = {
    TrainReidConfig: REID,
    TrainMultitaskConfig: MULTITASK,
}
"""The task of each configuration."""


def build_experiment(
    config: TrainingConfig, run: RunDirectory | None = None, sources: Sources | None = None
) -> Experiment:
    """Read the images of a training and check everything that needs no cluster.

    The function starts no Ray and writes nothing.

    Args:
        config: configuration of the training.
        run: run directory; by default the new one that the configuration names.
        sources: sources of the values. The values that no user set are adapted to the data.
            Without sources only missing values are filled in.

    Raises:
        UserError: the images, the network or the run directory do not allow the training.
    """
    task = TASKS[type(config)]
    read = read_manifest(
        config.data,
        config.layout,
        strict=config.strict,
        root=config.root,
        follow_links=config.follow_links,
    )
    manifest, labels = task.label_images(config, read)
    pa.default_memory_pool().release_unused()  # what the columns of a large manifest took
    config, changes = task.adapt_config(config, labels, manifest, sources)
    config, architecture = task.resolve_network(config, labels, manifest)
    check_architecture(config.optimizer, architecture)
    _check_parts(config)
    notes = task.check_validation(config, labels, manifest, read)
    manifest = replace(manifest, notes=(*manifest.notes, *notes, *adaptation_notes(changes)))
    for note in manifest.notes[len(read.notes) :]:
        log.info("%s", note)
    run = run or new_run(config)
    check_replaceable(run.folder / "model", MODEL_FILES)
    weights = _first_weights(config, architecture, run)
    experiment = Experiment(
        task=task,
        config=replace(config, output=run.location.uri),
        run=run,
        manifest=manifest,
        architecture=architecture,
        labels=labels,
        weights=weights,
    )
    _check_checkpoint(experiment)
    return experiment


def decode_images(experiment: Experiment, engine: TrainingEngine) -> DecodedExperiment:
    """Decode the images of a training, or check that they decode.

    Where an image does not decode, the result has labels of its own. A caller that drops the first
    experiment frees the labels of all images.

    Args:
        experiment: training that passed its checks.
        engine: decodes and trains.

    Raises:
        UserError: the machines have no room for the images or the workers, or too many images do
            not decode.
    """
    files = experiment.image_files()
    plan = engine.plan(experiment.config, files)
    config = replace(experiment.config, num_workers=plan.counts[-1])
    check_gpu_settings(config, plan.resources)
    crops = engine.decode(files, plan.mode)
    report_bad_images(crops, len(files.paths), config.max_bad)
    del files  # their memory is needed for the labels of the images that decode
    kept = replace(experiment, config=config).keep_decoded(crops)
    log.info("%s; %s", kept.describe_images(), plan.describe())
    return DecodedExperiment(replace(kept, labels=engine.share(kept.labels)), crops, plan)


def train_experiment(
    decoded: DecodedExperiment, engine: TrainingEngine, *, started: float
) -> TrainingRun:
    """Train, and write the run directory.

    Args:
        decoded: training whose images are decoded.
        engine: decodes and trains.
        started: seconds since 1970 at which the job began, for `max_minutes`.

    Raises:
        UserError: the time limit leaves no time to train, or the loss is not finite. A new run
            directory without a checkpoint is then removed.
        MachineError: the run directory cannot be written, or the machines failed. A new run
            directory that cannot be started is removed.
    """
    release_freed_memory()  # the labels of all images and their tables have ended
    experiment, crops, plan = decoded.experiment, decoded.crops, decoded.plan
    run, resources = experiment.run, plan.resources
    if experiment.config.auto_batch:
        job = experiment.train_job(crops, resources, None)
        experiment = with_largest_batch(experiment, job, resources)
    limit = _time_limit(experiment, started)
    with _removed_without_checkpoint(run, UserError):
        with _removed_without_checkpoint(run, MachineError):
            logger = start_run(experiment)
        job = experiment.train_job(crops, resources, limit)
        checkpoint = engine.train(job, plan, run.location, logger)
    result = TrainingResult.from_checkpoint(experiment.architecture, checkpoint)
    return write_results(experiment, result, crops, resources)


def report_bad_images(crops: CropDataset, count: int, max_bad: float) -> None:
    """Log the images that do not decode.

    Args:
        crops: decoded images.
        count: number of images that were to decode.
        max_bad: share of them that may fail, in 0..1.

    Raises:
        UserError: a larger share failed.
    """
    check_bad_images(crops.bad, count, max_bad)
    for image in crops.bad:
        log.warning("set aside: %s (%s)", image.path, image.reason)


def start_run(experiment: Experiment) -> RunLogger:
    """Write the configuration and the numbers of people and cameras into the run directory.

    Returns:
        The logger that writes the metrics of the run.

    Raises:
        MachineError: the disk is full, or the disk or the object store failed.
    """
    run, manifest = experiment.run, experiment.manifest
    files = {CONFIG_FILE: yaml.safe_dump(config_to_dict(experiment.config), sort_keys=False)}
    files |= id_name_files(manifest.person_ids, manifest.camera_ids)
    if experiment.weights.report is not None:
        report = json.dumps(experiment.weights.report.to_json(), indent=2)
        files[WEIGHTS_REPORT] = report + "\n"
    advice = "make room or mend the store, and run the job again"
    with naming_write_errors(f"run directory {run.location.uri}", advice):
        run.folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            atomic_write(run.folder / name, text)
        run.upload()
        return RunLogger(run, experiment.config.epochs)


def write_results(
    experiment: Experiment, result: TrainingResult, crops: CropDataset, resources: Resources
) -> TrainingRun:
    """Write the best epoch as a model directory, and the report.

    Args:
        experiment: training on the images that decode.
        result: result of the training.
        crops: decoded images.
        resources: resources of each training process.

    Raises:
        MachineError: the disk is full, or the disk or the object store failed.
    """
    run, state = experiment.run, result.trainer_state
    report = experiment.task.build_report(experiment, result, crops, resources)
    with (
        Activity("writing the model and the report"),
        naming_write_errors("the model and the report", ADVICE_TO_RESUME),
    ):
        with atomic_folder(run.folder / "model", replaces=MODEL_FILES) as folder:
            save_model(folder, result.network, experiment.architecture, report.card, report.readme)
        report.write_html(run.folder / REPORT_FILE)
        run.upload()
    return TrainingRun(
        directory=run.location.uri,
        model=run.uri("model"),
        report=run.uri(REPORT_FILE),
        metrics={
            "epochs": state.epoch,
            "steps": state.step,
            "best_epoch": state.best_epoch,
            **report.metrics,
            "bad_images": len(crops.bad),
            "dataset": experiment.manifest.summary,
        },
    )


def _check_parts(config: Any) -> None:
    """Check that each loss and augmentation has code, which a plugin may lack.

    Raises:
        UserError: names the first one that lacks it.
    """
    for name in config.loss.used:
        LOSSES.get(name)
    for name in config.augment.parts:
        AUGMENTATIONS.get(name)


def _first_weights(config: Any, architecture: Architecture[Any], run: RunDirectory) -> FirstWeights:
    """Read the weights that a new training starts from; a run with a checkpoint needs none.

    Raises:
        UserError: the weights cannot be read, or do not fit the network.
    """
    if newest_checkpoint(run.location) is not None:
        return FirstWeights(report=read_weights_report(run.location))
    if config.network.weights == "none":
        return FirstWeights()
    with Activity(f"reading {config.network.weights}", delay=SHOW_AFTER_SECONDS):
        weights = FirstWeights().prepare(config, architecture)
    for line in weights.report.lines() if weights.report else ():
        log.info("%s", line)
    return weights


def _check_checkpoint(experiment: Experiment) -> None:
    """Check that a run to resume began with the same configuration and images.

    Raises:
        UserError: a setting or the images differ, a batch is to be searched again, or a file is
            damaged.
    """
    checkpoint = newest_checkpoint(experiment.run.location)
    if checkpoint is not None:
        config = experiment.config
        if config.auto_batch:
            raise UserError(
                "the configuration of a run holds the batch that `auto_batch` found: resume the "
                "run without `auto_batch`"
            )
        settings = resume_settings(config, experiment.manifest.fingerprint)
        defaults = default_settings(config)
        check_settings(read_state(checkpoint), settings, checkpoint.uri, defaults=defaults)


def _time_limit(experiment: Experiment, started: float) -> TimeLimit | None:
    """Return the time limit of a job that began at `started`.

    Raises:
        UserError: the limit leaves no time to train.
    """
    config, task = experiment.config, experiment.task
    if config.max_minutes is None:
        return None
    images = sum(len(part) for part in experiment.labels.values())
    limit = TimeLimit(
        started=started,
        seconds=config.max_minutes * 60,
        wrap_up_share=task.wrap_up_share,
        images_after_training=images if task.evaluates_after_training else 0,
    )
    limit.check_room()
    return limit


@contextmanager
def _removed_without_checkpoint(run: RunDirectory, error: type[Exception]) -> Iterator[None]:
    """Remove a run directory that a block began, where this error leaves no checkpoint."""
    is_new = not run.location.join(CONFIG_FILE).is_file()
    try:
        yield
    except error:
        with suppress(OSError):  # the error tells more than that its traces stay
            if is_new and not has_checkpoints(run.location):
                run.clear((*RUN_FILES, f"{CHECKPOINTS}/*"))
        raise
