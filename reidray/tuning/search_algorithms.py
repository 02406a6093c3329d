"""How trials draw their values, and which of them may go on."""

from functools import partial
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

from reidray.config import TrainingConfig
from reidray.config.tuning import TuneConfig
from reidray.errors import UserError
from reidray.tuning.search_space import Variation
from reidray.tuning.trial import MUTABLE

KEEP_ONE_IN = 3
"""Of the trials that reach a rung of ASHA, the share that goes on."""


def domains(space: tuple[Variation, ...]) -> dict[str, Domain]:
    """The space as Tune draws from it."""
    ways = {
        "choice": lambda values: tune.choice(list(values)),
        "uniform": lambda values: tune.uniform(*values),
        "loguniform": lambda values: tune.loguniform(*values),
        "randint": lambda values: tune.randint(values[0], values[1] + 1),
    }
    return {variation.key: ways[variation.way](variation.values) for variation in space}


def check_search(config: TuneConfig, space: tuple[Variation, ...], workers: int) -> None:
    """Refuse a population that cannot be.

    Args:
        config: what was asked for.
        space: what varies.
        workers: training processes of each trial.

    Raises:
        UserError: a key cannot change while a network trains, trials are of several processes, or
            their number at once is limited.
    """
    if config.search != "pbt":
        return
    if config.concurrent is not None:
        raise UserError(
            "--search pbt lets all trials take turns on the whole cluster: leave out --concurrent"
        )
    if workers > 1:
        raise UserError(
            f"--search pbt copies trials of one process and the base has num_workers {workers}: "
            "set it to 1, or search at random or with tpe"
        )
    for variation in space:
        if variation.key.partition(".")[0] not in MUTABLE:
            raise UserError(
                f"key {variation.key!r} cannot change while a network trains, as --search pbt "
                f"needs it: vary only {', '.join(MUTABLE)}, or search at random or with tpe"
            )


def search_of(config: TuneConfig, at_once: int) -> SearchAlgorithm | Searcher:
    """How values are drawn, always alike for a seed.

    Args:
        config: what was asked for.
        at_once: most trials that live at a time; a population takes turns and lives as a whole.
    """
    if config.search == "tpe":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)

        return ConcurrencyLimiter(OptunaSearch(seed=config.seed), max_concurrent=at_once)
    most = 0 if config.search == "pbt" else at_once
    return BasicVariantGenerator(max_concurrent=most, random_state=config.seed)


def scheduler_of(
    config: TuneConfig, space: tuple[Variation, ...], base: TrainingConfig
) -> TrialScheduler:
    """Which trials go on."""
    if config.search == "pbt":
        return PopulationBasedTraining(
            time_attr="epoch",
            perturbation_interval=config.first_rung,
            hyperparam_mutations=_mutations(space),
            custom_explore_fn=partial(kept_within, space),
        )
    if not config.stop_early:
        return FIFOScheduler()
    most = most_epochs(space, base)
    return ASHAScheduler(
        time_attr="epoch",
        max_t=most,
        grace_period=min(config.first_rung, most),
        reduction_factor=KEEP_ONE_IN,
    )


def kept_within(space: tuple[Variation, ...], values: dict[str, Any]) -> dict[str, Any]:
    """Values with the numbers that left the space put back on its edge.

    A population changes numbers by a fifth, whatever their bounds.
    """
    bounds = {v.key: v.values for v in space if v.way != "choice"}
    return values | {key: min(max(values[key], low), high) for key, (low, high) in bounds.items()}


def _mutations(space: tuple[Variation, ...]) -> dict[str, Any]:
    """The space as a population changes it: numbers by a factor, choices to their neighbours."""
    choices = {v.key: list(v.values) for v in space if v.way == "choice"}
    return domains(space) | choices


def most_epochs(space: tuple[Variation, ...], base: TrainingConfig) -> int:
    """Epochs of the longest trial."""
    varied: list[Any] = [max(v.values) for v in space if v.key == "epochs"]
    return int(varied[0]) if varied else base.epochs
