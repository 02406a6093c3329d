"""A sweep, from a recipe and a space to a table of trials and the best of them."""

import logging
import os
import time
from dataclasses import asdict, dataclass, replace
from pickle import UnpicklingError
from typing import Any

import yaml
from ray import tune

from reidray.cluster_resources import node_resources
from reidray.config.tuning import TuneConfig
from reidray.data.ingest import choose_ingest_mode
from reidray.errors import UserError
from reidray.interrupts import interrupted, restore_handler
from reidray.storage.object_store import open_s3_for_ray
from reidray.storage.staging import atomic_write
from reidray.training.experiment import Experiment, ingest_images, plain, read_result, start_run
from reidray.training.ray_trainer import SHARE_BESIDE_DECODING, Resources
from reidray.training.runs.run_directory import RunDirectory
from reidray.tuning.kinds import KINDS
from reidray.tuning.search_algorithms import (
    check_search,
    domains,
    scheduler_of,
    search_of,
)
from reidray.tuning.search_space import Variation, read_space, with_values
from reidray.tuning.sweep_files import told_best, write_outputs, write_trials
from reidray.tuning.sweep_inputs import SWEEP_FILE, check_sweep, read_base
from reidray.tuning.sweep_progress import TrialLog
from reidray.tuning.trial import Trials, run_trial
from reidray.tuning.trial_results import TrialRow, best_of, rows_of

log = logging.getLogger("reidray")

STATE_FOLDER = "tune"
BEST_FOLDER = "best"
WRAP_UP_SECONDS = 25.0
"""Kept back from a budget for the end of the trials, the report and Ray's own end."""

SNAPSHOT_SECONDS = "1"
"""How often Tune keeps how the sweep stands. A sweep that is killed goes on from there, and from
checkpoints that are still there: so a trial's last but one is kept too."""


DEPENDS_ON_DATA = ("batch", "batch_size", "loss", "network")
"""Parts of a configuration that the images or the network may refuse."""

_HOW_TO_READ = ("layout", "root", "follow_links")
"""Keys that say how the images are read. That they are the same images their fingerprint tells."""


@dataclass(frozen=True)
class Sweep:
    """A sweep that can start.

    Attributes:
        config: what was asked for.
        output: where it lies.
        space: what varies.
        experiment: the training that is varied.
    """

    config: TuneConfig
    output: RunDirectory
    space: tuple[Variation, ...]
    experiment: Experiment


def prepare_sweep(config: TuneConfig, output: RunDirectory | None = None) -> Sweep:
    """Read and check what a sweep needs. No Ray, and nothing is written yet.

    Args:
        config: what is asked for.
        output: the folder of the sweep, if it has been checked.

    Raises:
        UserError: the recipe, the space, the data or the output do not allow it.
    """
    if output is None:
        output = RunDirectory.at(config.output)
        check_sweep(output, config)
    asked = read_base(config)
    base = asked.config
    space = read_space(config.space, config.task, base)
    check_search(config, space, base.num_workers)
    best = output.uri(BEST_FOLDER)
    base = replace(
        base,
        data=config.data,
        layout=config.layout or base.layout,
        root=config.root or base.root,
        follow_links=config.follow_links or base.follow_links,
        output=best,
        max_minutes=None,
    )
    run = RunDirectory.at(best) if config.resume else None
    experiment = KINDS[config.task].prepare(base, run, asked.sources)
    _check_values(space, experiment)
    sweep = Sweep(config, output, space, experiment)
    if config.resume:
        _check_same(sweep)
    return sweep


def _check_values(space: tuple[Variation, ...], experiment: Experiment) -> None:
    """Refuse values that the images or the network do not allow: each choice, the ends of ranges.

    Raises:
        UserError: a trial that draws the value would fail.
    """
    for variation in space:
        if variation.key.partition(".")[0] not in DEPENDS_ON_DATA:
            continue
        for value in variation.values:
            try:
                experiment.with_config(with_values(experiment.config, {variation.key: value}))
            except UserError as error:
                raise UserError(
                    f"space: {variation.key} {value}: {error}; take it out of the space"
                ) from error


def run_sweep(sweep: Sweep, *, started: float | None = None) -> dict[str, Any]:
    """Train trial after trial, and leave their table and the best of them. Ray is connected.

    Args:
        sweep: what to train.
        started: seconds since 1970 at which the job began, for its time limit; by default now.

    Returns:
        What was made and its figures.

    A sweep that a signal ends leaves the table of its trials.

    Raises:
        KeyboardInterrupt: a signal ended the sweep.
        UserError: the cluster has no place for a trial, too many images are bad, the budget leaves
            no time, or no trial came to the end of an epoch.
    """
    config, started = sweep.config, started or time.time()
    workers = sweep.experiment.config.num_workers
    resources, at_once = _place_trials(config, workers)
    files = sweep.experiment.image_files()
    way = choose_ingest_mode(files, sweep.experiment.config.ingest)
    if way == "stream":
        resources = replace(resources, share=SHARE_BESIDE_DECODING)
    crops = ingest_images(files, way, sweep.experiment.config.max_bad)
    experiment = sweep.experiment.keep_decoded(crops)
    state = sweep.output.location.join(STATE_FOLDER)
    trials = Trials(experiment, crops, resources, state, mutates=config.search == "pbt")
    log.info("%s", experiment.describe_images())
    log.info(
        "%d trials of %s, %d at once", config.num_samples, resources.described(workers), at_once
    )
    budget = _seconds_to_train(config, started)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own messages would go to stdout
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", SNAPSHOT_SECONDS)
    folder = sweep.output.folder
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / SWEEP_FILE, yaml.safe_dump(_identity(sweep), sort_keys=False))
    sweep.output.share()
    begun = time.perf_counter()
    found = _tuner(sweep, trials, at_once, budget).fit()
    seconds = time.perf_counter() - begun
    rows = rows_of(found, sweep.space, trials)
    if interrupted():  # Tune has ended its trials, and the job ends here
        write_trials(sweep.output, rows)
        raise KeyboardInterrupt
    restore_handler()  # which Tune has taken
    best = best_of(rows, experiment.config.validation)
    if best is None or best.checkpoint is None:
        if not config.resume:
            sweep.output.clear((SWEEP_FILE, f"{STATE_FOLDER}/*"))
        raise UserError(_nothing_learned(rows, config))
    chosen = trials.drawn(best.values)
    chosen.run.clear()  # of a sweep that is resumed
    result = read_result(chosen.architecture, best.checkpoint)
    start_run(chosen).copy(result.records)
    run = KINDS[config.task].finish(chosen, result, crops, resources)
    best_config = replace(chosen.config, output=None)
    judged_on = experiment.describe_validation()
    made = write_outputs(
        sweep.output, sweep.space, experiment.config, best_config, rows, best, judged_on
    )
    log.info("%s", told_best(best, rows, experiment.config.validation, judged_on))
    return made | {
        "model": run["model"],
        "dataset": run["dataset"],
        "at_once": at_once,
        "sweep_seconds": round(seconds, 1),
    }


def _identity(sweep: Sweep) -> dict[str, Any]:
    """What must be the same where a sweep goes on."""
    asked = {
        key: value
        for key, value in asdict(sweep.config).items()
        if key not in ("output", "resume", *_HOW_TO_READ)
    }
    base = plain(replace(sweep.experiment.config, output=None))
    space = {v.key: {v.way: list(v.values)} for v in sweep.space}
    return {
        "asked": asked | {"space": list(sweep.config.space)},
        "space": space,
        "base": {key: value for key, value in base.items() if key not in _HOW_TO_READ},
        "images": sweep.experiment.manifest.fingerprint,
    }


def _check_same(sweep: Sweep) -> None:
    """Refuse to go on with a sweep of anything else."""
    place = sweep.output.location.join(SWEEP_FILE)
    try:
        then = yaml.safe_load(sweep.output.location.read_bytes(SWEEP_FILE))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{place.uri} is not YAML ({_one_line(error)}): begin a new sweep"
        ) from error
    if not (isinstance(then, dict) and isinstance(then.get("base"), dict)):
        raise UserError(f"{place.uri} does not hold what a sweep is: begin a new sweep")
    then["base"].pop("layout", None)  # of a sweep that an earlier version began
    now = yaml.safe_load(yaml.safe_dump(_identity(sweep)))
    for part, value in now.items():
        if then.get(part) != value:
            raise UserError(
                f"the sweep in {sweep.output.location.uri} was begun with other {part}: "
                "resume it with what it began with, or name a new output"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _place_trials(config: TuneConfig, workers: int) -> tuple[Resources, int]:
    """What each process of a trial is given, and how many trials run at once.

    Raises:
        UserError: the cluster has no room for one.
    """
    nodes = node_resources()
    cpus = config.cpus_per_trial
    processes = sum(int(node.get("CPU", 0)) // cpus for node in nodes)
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus:
        processes = min(processes, gpus)
    if processes < workers:
        most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        raise UserError(
            f"a trial needs {workers} x {cpus} CPUs{' and GPUs' if gpus else ''} and the cluster "
            f"has room for {processes} x {cpus}, {most} on its largest node: lower "
            "--cpus-per-trial, or num_workers in the base"
        )
    # Where Ray Train trains, the trial's own process needs a little of the CPUs.
    share = 1.0 if workers == 1 else 0.9
    at_once = processes // workers
    return Resources(gpus > 0, cpus, share), min(at_once, config.concurrent or at_once)


def _seconds_to_train(config: TuneConfig, started: float) -> float | None:
    """Return what the budget of a sweep leaves for its trials; None where it has no budget.

    Raises:
        UserError: it leaves nothing.
    """
    if config.budget_minutes is None:
        return None
    spent = time.time() - started
    left = config.budget_minutes * 60 - spent - WRAP_UP_SECONDS
    if left <= 0:
        raise UserError(
            f"starting took {spent:.0f} s and the report needs {WRAP_UP_SECONDS:.0f} s, so that no "
            f"trial can train within {config.budget_minutes:g} minutes: raise --budget-minutes"
        )
    return left


def _tuner(sweep: Sweep, trials: Trials, at_once: int, budget: float | None) -> tune.Tuner:
    """Tune, from the start or from where the sweep was left, for `budget` seconds."""
    config, base = sweep.config, trials.experiment.config
    held = trials.resources.held if base.num_workers == 1 else {"CPU": 0.01}
    shared = tune.with_parameters(run_trial, trials=trials)
    trainable = tune.with_resources(shared, held)
    place, storage = trials.folder.path, open_s3_for_ray(trials.folder.uri)
    if config.resume and tune.Tuner.can_restore(place, storage_filesystem=storage):
        try:
            return tune.Tuner.restore(
                place,
                trainable,
                storage_filesystem=storage,
                resume_unfinished=True,
                param_space=domains(sweep.space),
            )
        except (EOFError, UnpicklingError, ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"{trials.folder.uri}: Tune's state of the sweep is damaged ({_one_line(error)}): "
                "begin a new sweep"
            ) from error
    return tune.Tuner(
        trainable,
        param_space=domains(sweep.space),
        tune_config=tune.TuneConfig(
            metric=base.validation.select_by,
            mode=base.validation.mode,
            num_samples=config.num_samples,
            time_budget_s=budget,
            search_alg=search_of(config, at_once),
            scheduler=scheduler_of(config, sweep.space, base),
            # Ray Train's processes end with that of their trial, and a stopped one would be kept.
            reuse_actors=base.num_workers == 1,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=trials.folder.name,
            storage_path=trials.folder.parent.path,
            storage_filesystem=storage,
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=None if config.search == "pbt" else 2
            ),
            callbacks=[
                TrialLog(base, config.num_samples, budget, keeps_results=config.search == "pbt")
            ],
            verbose=0,
        ),
    )


def _nothing_learned(rows: list[TrialRow], config: TuneConfig) -> str:
    """Why there is no best trial."""
    failed = next((row.error for row in rows if row.error), None)
    if failed:
        return f"no trial came to the end of an epoch; the first that failed said: {failed}"
    if config.budget_minutes is None:
        return "interrupted before any trial came to the end of an epoch"
    return (
        f"no trial came to the end of an epoch within {config.budget_minutes:g} minutes: "
        "raise --budget-minutes"
    )
