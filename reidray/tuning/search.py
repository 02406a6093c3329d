"""How trials draw their values, and which of them may go on."""

from typing import Any

from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import SearchAlgorithm, Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.sample import Domain

from reidray.config import TrainingConfig
from reidray.errors import UserError
from reidray.tuning.config import TuneConfig
from reidray.tuning.space import Variation
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


def check_search(config: TuneConfig, space: tuple[Variation, ...]) -> None:
    """Refuse a population over keys that cannot change while a network trains.

    Raises:
        UserError: names the key.
    """
    if config.search != "pbt":
        return
    for variation in space:
        if variation.key.partition(".")[0] not in MUTABLE:
            raise UserError(
                f"key {variation.key!r} cannot change while a network trains, as --search pbt "
                f"needs it: vary only {', '.join(MUTABLE)}, or search at random or with tpe"
            )


def search_of(config: TuneConfig) -> SearchAlgorithm | Searcher:
    """How values are drawn, always alike for a seed."""
    if config.search == "tpe":
        from ray.tune.search.optuna import OptunaSearch

        return OptunaSearch(seed=config.seed)
    return BasicVariantGenerator(random_state=config.seed)


def scheduler_of(
    config: TuneConfig, space: tuple[Variation, ...], base: TrainingConfig
) -> TrialScheduler:
    """Which trials go on."""
    if config.search == "pbt":
        return PopulationBasedTraining(
            time_attr="epoch",
            perturbation_interval=config.first_rung,
            hyperparam_mutations=dict(domains(space)),
        )
    if not config.stop_early:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",
        max_t=most_epochs(space, base),
        grace_period=config.first_rung,
        reduction_factor=KEEP_ONE_IN,
    )


def most_epochs(space: tuple[Variation, ...], base: TrainingConfig) -> int:
    """Epochs of the longest trial."""
    varied: list[Any] = [max(v.values) for v in space if v.key == "epochs"]
    return int(varied[0]) if varied else base.epochs
