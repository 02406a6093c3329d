"""Run a sweep: train one recipe with many parameters, and keep the best trial."""

import logging
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from reidray.config.sections.open_section import config_to_dict
from reidray.config.tuning import TuneConfig
from reidray.data.ingest.mode import choose_ingest_mode, ingest
from reidray.errors import UserError
from reidray.interrupts import interrupted, restore_interrupt_handler
from reidray.storage.staging import atomic_write
from reidray.training.execution.resources import Resources, check_gpu_settings
from reidray.training.execution.worker_planning import SHARE_BESIDE_DECODING
from reidray.training.experiment import Experiment, TrainingResult
from reidray.training.orchestration import (
    build_experiment,
    report_bad_images,
    start_run,
    write_results,
)
from reidray.training.runs.run_directory import RunDirectory
from reidray.tuning.search_space import (
    INPUT_SIZE,
    SearchParameter,
    load_space,
    with_values,
)
from reidray.tuning.sweep_files import describe_best, write_sweep_files, write_trial_table
from reidray.tuning.sweep_inputs import SWEEP_FILE, check_sweep_folder, load_base
from reidray.tuning.trial import TrialContext
from reidray.tuning.trial_results import read_trial_results
from reidray.tuning.trial_table import TABLE_FILE, TrialResult, best_result
from reidray.tuning.tuner import build_tuner, check_search, plan_trials

log = logging.getLogger("reidray")

STATE_FOLDER = "tune"
BEST_FOLDER = "best"

WRAP_UP_SECONDS = 25.0
"""Time of the budget for the end of the trials, the report and the shutdown of Ray."""

SNAPSHOT_SECONDS = "1"
"""Interval at which Ray Tune saves the state of the sweep, in seconds. A sweep that was killed
resumes from the last state, and from checkpoints that may be one older than the newest. So each
trial keeps two."""

DATA_DEPENDENT_SECTIONS = ("batch", "batch_size", "loss", "network", INPUT_SIZE)
"""Sections and keys whose values the images or the network may not allow."""

CHANGEABLE_KEYS = ("layout", "root", "follow_links", "no_images")
"""Keys that a resumed sweep may change. Most select how the images are read, and the sweep compares
the fingerprint of the images."""


@dataclass(frozen=True)
class Sweep:
    """Hold a sweep whose inputs are checked.

    Attributes:
        config: the configuration of the sweep.
        output: the sweep's folder.
        space: the search space.
        experiment: the training that the sweep varies.
    """

    config: TuneConfig
    output: RunDirectory
    space: tuple[SearchParameter, ...]
    experiment: Experiment


def prepare_sweep(config: TuneConfig, output: RunDirectory | None = None) -> Sweep:
    """Read and check the inputs of a sweep. Needs no Ray and writes nothing.

    Args:
        config: the configuration of the sweep.
        output: the sweep's folder, if `claim_sweep_folder` has checked it.

    Raises:
        UserError: the recipe, the search space, the images or the output do not allow the sweep.
    """
    if output is None:
        output = RunDirectory.from_uri(config.output)
        check_sweep_folder(output, config)
    loaded = load_base(config)
    space = load_space(config.space, config.task, loaded.config)
    check_search(config, space, loaded.config.workers)
    best = output.uri(BEST_FOLDER)
    base = replace(
        loaded.config,
        data=config.data,
        layout=config.layout or loaded.config.layout,
        root=config.root or loaded.config.root,
        follow_links=config.follow_links or loaded.config.follow_links,
        output=best,
        max_minutes=None,
    )
    run = RunDirectory.from_uri(best) if config.resume else None
    experiment = build_experiment(base, run, loaded.sources)
    experiment = _check_values(space, experiment)
    sweep = Sweep(config, output, space, experiment)
    if config.resume:
        _check_unchanged(sweep)
    return sweep


def run_sweep(sweep: Sweep, *, started: float | None = None) -> dict[str, Any]:
    """Run the trials, and write their table, the report and the best model. Needs Ray.

    A sweep that a signal interrupts leaves the table of its trials.

    Args:
        sweep: the sweep.
        started: start of the job in seconds since 1970, for its time budget; by default now.

    Returns:
        The summary of the sweep for the job's JSON line.

    Raises:
        KeyboardInterrupt: a signal interrupted the sweep.
        UserError: the cluster has too few resources for a trial, too many images are bad, the
            budget is too short, or no trial completed an epoch.
    """
    config, base = sweep.config, sweep.experiment.config
    plan = plan_trials(config, base.workers)
    check_gpu_settings(base, plan.resources)
    context = _ingest(sweep, plan.resources)
    log.info("%s", context.experiment.describe_images())
    described = context.resources.describe(base.workers)
    log.info("%d trials of %s, %d at once", config.num_samples, described, plan.concurrent)
    budget = _trial_budget(config, started or time.time())
    _write_sweep_file(sweep)

    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Ray Tune's messages would go to stdout
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", SNAPSHOT_SECONDS)
    fit_started = time.perf_counter()
    grid = build_tuner(config, sweep.space, context, plan.concurrent, budget).fit()
    sweep_seconds = time.perf_counter() - fit_started

    results = read_trial_results(grid, sweep.space, context)
    if interrupted():  # Ray Tune has ended its trials; the job ends here
        if results:
            write_trial_table(sweep.output, results)
        raise KeyboardInterrupt
    restore_interrupt_handler()  # Ray Tune installs its own
    best = best_result(results, base.validation)
    if best is None or best.checkpoint is None:
        if not config.resume:
            sweep.output.clear((SWEEP_FILE, TABLE_FILE, f"{STATE_FOLDER}/*"))
        raise UserError(_explain_no_best(results, config))

    best_experiment = context.with_parameters(best.parameters)
    best_experiment.run.clear()  # a resumed sweep may have written it
    training = TrainingResult.from_checkpoint(best_experiment.architecture, best.checkpoint)
    start_run(best_experiment).write_all(training.records)
    crops = context.crops_of(best_experiment)
    run = write_results(best_experiment, training, crops, context.resources)
    best_config = replace(best_experiment.config, output=None)
    validation_size = context.experiment.describe_validation()
    summary = write_sweep_files(
        sweep.output, sweep.space, base, best_config, results, best, validation_size
    )
    log.info("%s", describe_best(best, results, base.validation, validation_size))
    return summary | {
        "model": run.model,
        "dataset": run.metrics["dataset"],
        "at_once": plan.concurrent,
        "sweep_seconds": round(sweep_seconds, 1),
    }


def _check_values(space: tuple[SearchParameter, ...], experiment: Experiment) -> Experiment:
    """Check that the images and the network allow each choice, and the ends of each range.

    Returns:
        The experiment, with all weights that its trials may start from.

    Raises:
        UserError: a trial that draws the value would fail.
    """
    for parameter in space:
        if parameter.key.partition(".")[0] not in DATA_DEPENDENT_SECTIONS:
            continue
        for value in parameter.values:
            try:
                varied = with_values(experiment.config, {parameter.key: value})
                experiment = experiment.with_sources_of(experiment.with_config(varied))
            except UserError as error:
                raise UserError(
                    f"space: {parameter.key} {value}: {error}; take it out of the space"
                ) from error
    return experiment


def _ingest(sweep: Sweep, resources: Resources) -> TrialContext:
    """Decode the images once for all trials, in each input size of the space."""
    experiment = sweep.experiment
    sizes = [experiment, *_resized(sweep)]
    files = {each.architecture.size: each.image_files() for each in sizes}
    first, *others = files.values()
    mode = choose_ingest_mode(first, experiment.config.ingest, others)
    if mode == "stream":
        resources = replace(resources, share=SHARE_BESIDE_DECODING)
    crops = {size: ingest(of_size, mode) for size, of_size in files.items()}
    for of_size in {each.bad: each for each in crops.values()}.values():  # the same images once
        report_bad_images(of_size, len(first.paths), experiment.config.max_bad)
    for of_size in crops.values():
        experiment = experiment.keep_decoded(of_size)
    return TrialContext(
        experiment=experiment,
        crops=crops,
        resources=resources,
        folder=sweep.output.location.join(STATE_FOLDER),
        is_population=sweep.config.search == "pbt",
    )


def _resized(sweep: Sweep) -> list[Experiment]:
    """Return the experiment in each input size of the space."""
    return [
        sweep.experiment.with_config(with_values(sweep.experiment.config, {INPUT_SIZE: value}))
        for parameter in sweep.space
        if parameter.key == INPUT_SIZE
        for value in parameter.values
    ]


def _trial_budget(config: TuneConfig, started: float) -> float | None:
    """Return the time for the trials in seconds; None without a budget.

    Raises:
        UserError: the budget leaves no time.
    """
    if config.budget_minutes is None:
        return None
    spent = time.time() - started
    left = config.budget_minutes * 60 - spent - WRAP_UP_SECONDS
    if left <= 0:
        raise UserError(
            f"starting took {spent:.0f} s and the report needs {WRAP_UP_SECONDS:.0f} s, so no "
            f"trial can train within {config.budget_minutes:g} minutes: raise `budget_minutes`"
        )
    return left


def _write_sweep_file(sweep: Sweep) -> None:
    """Write the definition of the sweep into its folder."""
    folder = sweep.output.folder
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / SWEEP_FILE, yaml.safe_dump(_definition(sweep), sort_keys=False))
    sweep.output.upload()


def _definition(sweep: Sweep) -> dict[str, Any]:
    """Return the settings that a resumed sweep must not change."""
    requested = {
        key: value
        for key, value in asdict(sweep.config).items()
        if key not in ("output", "resume", *CHANGEABLE_KEYS)
    }
    base = config_to_dict(replace(sweep.experiment.config, output=None))
    return {
        "asked": requested | {"space": list(sweep.config.space)},
        "space": {each.key: {each.distribution: list(each.values)} for each in sweep.space},
        "base": {key: value for key, value in base.items() if key not in CHANGEABLE_KEYS},
        "images": sweep.experiment.manifest.fingerprint,
    }


def _check_unchanged(sweep: Sweep) -> None:
    """Check that a resumed sweep has the settings with which it was started.

    Raises:
        UserError: a part differs, which the message names, or the definition is damaged.
    """
    uri = sweep.output.location.join(SWEEP_FILE).uri
    try:
        before = yaml.safe_load(sweep.output.location.read_bytes(SWEEP_FILE))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{uri} is not YAML ({reason}): begin a new sweep") from error
    if not (isinstance(before, dict) and isinstance(before.get("base"), dict)):
        raise UserError(f"{uri} does not define a sweep: begin a new sweep")
    before["base"].pop("layout", None)  # written by earlier versions
    now = yaml.safe_load(yaml.safe_dump(_definition(sweep)))
    for part, value in now.items():
        if before.get(part) != value:
            raise UserError(
                f"the sweep in {sweep.output.location.uri} was begun with other {part}: "
                "resume it with the same settings, or name a new output"
            )


def _explain_no_best(results: list[TrialResult], config: TuneConfig) -> str:
    """Return the reason why no trial completed an epoch, and what to do."""
    error = next((result.error for result in results if result.error), None)
    if error:
        return f"no trial completed an epoch; the first failure: {error}"
    if config.budget_minutes is None:
        return "interrupted before any trial completed an epoch"
    return (
        f"no trial completed an epoch within {config.budget_minutes:g} minutes: "
        "raise `budget_minutes`"
    )
