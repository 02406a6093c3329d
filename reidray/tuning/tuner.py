"""Build the tuner of Ray Tune that runs a sweep: resources, search algorithm and scheduler."""

from dataclasses import dataclass
from functools import partial
from pickle import UnpicklingError
from typing import Any

from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import ConcurrencyLimiter, SearchAlgorithm, Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.sample import Domain

from reidray.cluster_resources import cluster_capacity, wait_for_resources
from reidray.config import TrainingConfig
from reidray.config.tuning import TuneConfig
from reidray.errors import UserError
from reidray.storage.connections.s3_connections import open_s3_for_ray
from reidray.training.execution.resources import Resources
from reidray.training.execution.worker_planning import RayResources
from reidray.tuning.search_space import SearchParameter
from reidray.tuning.sweep_progress import SweepProgress
from reidray.tuning.trial import MUTABLE_SECTIONS, TrialContext, run_trial

REDUCTION_FACTOR = 3
"""ASHA continues one of this number of trials at each rung."""

TRIAL_DRIVER_CPUS = 0.01
"""CPUs of the process of a trial whose training processes Ray Train starts."""

SHARE_BESIDE_TRIAL_DRIVER = 0.9
"""Share of the CPUs that Ray Train's processes reserve beside the process of their trial."""


@dataclass(frozen=True)
class TrialPlan:
    """Plan the trials on the cluster.

    Attributes:
        resources: the resources of each training process.
        concurrent: number of concurrent trials.
    """

    resources: Resources
    concurrent: int


def plan_trials(config: TuneConfig, num_workers: int) -> TrialPlan:
    """Plan the trials on the cluster, once it has grown, and wait for the room of one trial.

    Args:
        config: the configuration of the sweep.
        num_workers: number of training processes of each trial.

    Raises:
        UserError: the cluster can never have enough CPUs or GPUs for one trial, or had no room for
            one in time.
    """
    nodes = cluster_capacity().most
    cpus = config.cpus_per_trial
    processes = sum(int(node.get("CPU", 0)) // cpus for node in nodes)
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus:
        processes = sum(
            min(int(node.get("CPU", 0)) // cpus, int(node.get("GPU", 0))) for node in nodes
        )
    if processes < num_workers:
        largest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        raise UserError(
            f"a trial needs {num_workers} x {cpus} CPUs{' and GPUs' if gpus else ''} and the "
            f"cluster has room for {processes} x {cpus}, {largest} on its largest node: lower "
            "`cpus_per_trial`, or num_workers in the base"
        )
    share = 1.0 if num_workers == 1 else SHARE_BESIDE_TRIAL_DRIVER
    concurrent = processes // num_workers
    resources = RayResources(gpus > 0, cpus, share)
    wait_for_resources([resources.reserved] * num_workers, "cpus_per_trial" if cpus > 1 else None)
    return TrialPlan(resources, min(concurrent, config.concurrent or concurrent))


def build_tuner(
    config: TuneConfig,
    space: tuple[SearchParameter, ...],
    context: TrialContext,
    concurrent: int,
    budget: float | None,
) -> tune.Tuner:
    """Build the tuner of a new sweep, or restore that of a sweep to resume.

    Args:
        config: the configuration of the sweep.
        space: the search space.
        context: images and settings that all trials share.
        concurrent: number of concurrent trials.
        budget: time for the trials in seconds; None for no limit.

    Raises:
        UserError: the state of the sweep to resume cannot be read.
    """
    base = context.experiment.config
    in_one_process = base.workers == 1
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, context=context),
        context.resources.reserved if in_one_process else {"CPU": TRIAL_DRIVER_CPUS},
    )
    path, storage = context.folder.path, open_s3_for_ray(context.folder.uri)
    if config.resume and tune.Tuner.can_restore(path, storage_filesystem=storage):
        try:
            return tune.Tuner.restore(
                path,
                trainable,
                storage_filesystem=storage,
                resume_unfinished=True,
                param_space=to_domains(space),
            )
        except (
            *(EOFError, UnpicklingError, ValueError, KeyError),
            *(AttributeError, ImportError),  # names of another version of reidray
        ) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{context.folder.uri}: Ray Tune's state of the sweep is damaged, or of another "
                f"version of reidray ({reason}): begin a new sweep"
            ) from error
    return tune.Tuner(
        trainable,
        param_space=to_domains(space),
        tune_config=tune.TuneConfig(
            metric=base.validation.select_by,
            mode=base.validation.mode,
            num_samples=config.num_samples,
            time_budget_s=budget,
            search_alg=build_search_algorithm(config, concurrent),
            scheduler=build_scheduler(config, space, base),
            # The processes of Ray Train end with the process of their trial, so it is not reused.
            reuse_actors=in_one_process,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=context.folder.name,
            storage_path=context.folder.parent.path,
            storage_filesystem=storage,
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=None if context.is_population else 2
            ),
            callbacks=[
                SweepProgress(base, config.num_samples, budget, is_population=context.is_population)
            ],
            verbose=0,
        ),
    )


def to_domains(space: tuple[SearchParameter, ...]) -> dict[str, Domain]:
    """Return the search space as domains of Ray Tune, by key."""
    domains = {
        "choice": lambda values: tune.choice(list(values)),
        "uniform": lambda values: tune.uniform(*values),
        "loguniform": lambda values: tune.loguniform(*values),
        "randint": lambda values: tune.randint(values[0], values[1] + 1),
    }
    return {each.key: domains[each.distribution](each.values) for each in space}


def check_search(config: TuneConfig, space: tuple[SearchParameter, ...], num_workers: int) -> None:
    """Check that population based training can run the sweep, where the sweep uses it.

    Args:
        config: the configuration of the sweep.
        space: the search space.
        num_workers: number of training processes of each trial.

    Raises:
        UserError: a key cannot change during training, a trial has several processes, or the
            number of concurrent trials is limited.
    """
    if config.search != "pbt":
        return
    if config.concurrent is not None:
        raise UserError(
            "`search=pbt` lets all trials take turns on the whole cluster: leave out `concurrent`"
        )
    if num_workers > 1:
        raise UserError(
            f"`search=pbt` needs trials of one process and the base has num_workers {num_workers}: "
            "set it to 1, or use `search=random` or `search=tpe`"
        )
    for parameter in space:
        if parameter.key.partition(".")[0] not in MUTABLE_SECTIONS:
            raise UserError(
                f"key {parameter.key!r} cannot change during training, as `search=pbt` requires: "
                f"vary only {', '.join(MUTABLE_SECTIONS)}, or use `search=random` or `search=tpe`"
            )


def build_search_algorithm(config: TuneConfig, concurrent: int) -> SearchAlgorithm | Searcher:
    """Build the search algorithm. The same seed draws the same values.

    Args:
        config: the configuration of the sweep.
        concurrent: the largest number of concurrent trials. It does not limit a population, whose
            trials take turns.
    """
    if config.search == "tpe":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)

        return ConcurrencyLimiter(OptunaSearch(seed=config.seed), max_concurrent=concurrent)
    unlimited = 0
    return BasicVariantGenerator(
        max_concurrent=unlimited if config.search == "pbt" else concurrent,
        random_state=config.seed,
    )


def build_scheduler(
    config: TuneConfig, space: tuple[SearchParameter, ...], base: TrainingConfig
) -> TrialScheduler:
    """Build the scheduler, which stops or changes weak trials.

    Args:
        config: the configuration of the sweep.
        space: the search space.
        base: the configuration that the sweep varies.
    """
    if config.search == "pbt":
        return PopulationBasedTraining(
            time_attr="epoch",
            perturbation_interval=config.first_rung,
            hyperparam_mutations=_mutations(space),
            custom_explore_fn=partial(clip_to_space, space),
        )
    if not config.stop_early:
        return FIFOScheduler()
    epochs = max_epochs(space, base)
    return ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(config.first_rung, epochs),
        reduction_factor=REDUCTION_FACTOR,
    )


def clip_to_space(space: tuple[SearchParameter, ...], values: dict[str, Any]) -> dict[str, Any]:
    """Clip numbers to the ranges of the search space.

    Population based training multiplies numbers by 0.8 or 1.2 and ignores their ranges.
    """
    ranges = {each.key: each.values for each in space if each.is_numeric}
    return values | {key: min(max(values[key], low), high) for key, (low, high) in ranges.items()}


def max_epochs(space: tuple[SearchParameter, ...], base: TrainingConfig) -> int:
    """Return the number of epochs of the longest trial."""
    return max(
        (int(max(each.values)) for each in space if each.key == "epochs"), default=base.epochs
    )


def _mutations(space: tuple[SearchParameter, ...]) -> dict[str, Any]:
    """Return the mutations of population based training, by key.

    A domain lets it multiply the number; a list lets it move to a neighbouring choice.
    """
    choices = {each.key: list(each.values) for each in space if not each.is_numeric}
    return to_domains(space) | choices
