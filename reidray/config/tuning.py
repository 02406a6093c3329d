"""Configure a sweep."""

from dataclasses import dataclass
from typing import Literal

from reidray.config.data_sources import OneOrMore, check_sources
from reidray.config.sections.limits import require, require_seed
from reidray.config.trainings import MAX_MINUTES

MAX_TRIALS = 100_000


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Hold the options of a sweep, which trains one recipe many times and keeps the best.

    Attributes:
        data: folder or s3:// URI of the images, or a CSV or Parquet manifest; several are trained
            on together.
        output: folder or s3:// URI of the sweep, new or empty: trials.csv, trials.parquet,
            best.yaml, report.html and best/, the run directory of the best trial.
        layout: layout of the data, or one for each of several sets; by default that of the recipe,
            or the one recognised.
        root: folder or s3:// URI to which the paths of a manifest are relative; by default the one
            that its metadata names, or its own folder.
        follow_links: read images behind links that lead out of the data.
        recipe: name of the recipe that is varied; list prints the names.
        space: search spaces: names of those that come with reidray, or YAML files; list prints the
            names.
        base: YAML file of values that replace those of the recipe.
        task: kind of training; multitask is pets and attributes, as the recipe says.
        num_samples: number of trials.
        budget_minutes: time limit of the whole job, from its start to the report, in minutes;
            trials that still train then are stopped.
        search: random draws each trial anew, tpe learns from earlier trials, pbt changes the
            settings of weak trials while they train.
        stop_early: stop trials that fall behind (ASHA).
        first_rung: epochs of every trial before it can be stopped, or changed by pbt.
        concurrent: most trials at once; by default as many as the cluster has room for.
        cpus_per_trial: CPUs of each training process that has no GPU.
        seed: seed of the draws; the trainings keep the recipe's seed.
        resume: go on with the sweep in the output folder, with the whole time again; trials that
            the budget stopped stay stopped. Ray Tune stores a sweep as pickles, which run code
            when they are read: resume only sweeps that you started.
    """

    data: OneOrMore
    output: str
    recipe: str
    space: tuple[str, ...]
    base: str | None = None
    layout: OneOrMore | None = None
    root: str | None = None
    follow_links: bool = False
    task: Literal["reid", "multitask"] = "reid"
    num_samples: int = 20
    budget_minutes: float | None = None
    search: Literal["random", "tpe", "pbt"] = "random"
    stop_early: bool = True
    first_rung: int = 2
    concurrent: int | None = None
    cpus_per_trial: int = 1
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        check_sources(self)
        require(bool(self.space), "`space` must name a search space")
        for name in ("num_samples", "first_rung", "cpus_per_trial"):
            require(getattr(self, name) >= 1, f"`{name}` must be 1 or more")
        require(
            self.budget_minutes is None or 0 < self.budget_minutes <= MAX_MINUTES,
            f"`budget_minutes` must be above 0 and at most {MAX_MINUTES}, a year",
        )
        require(self.num_samples <= MAX_TRIALS, f"`num_samples` must be {MAX_TRIALS} or fewer")
        require_seed(self.seed, "`seed`")
        require(self.concurrent is None or self.concurrent >= 1, "`concurrent` must be 1 or more")
