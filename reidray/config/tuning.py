"""What a sweep may be told."""

from dataclasses import dataclass
from typing import Literal

from reidray.config.parts import require, require_seed
from reidray.config.trainings import MAX_MINUTES

MAX_TRIALS = 100_000


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Train one recipe many times under settings that vary, and keep the best.

    Attributes:
        data: folder or s3:// URI of the images, or a CSV or Parquet manifest.
        output: folder or s3:// URI of the sweep, new or empty: trials.csv, trials.parquet,
            best.yaml, report.html and best/, the run directory of the best trial.
        layout: how the data is laid out; by default as the recipe says, or recognised.
        root: folder or s3:// URI where the paths of a manifest begin; by default the one that its
            metadata name, or its own folder.
        follow_links: read images that links out of the data lead to.
        recipe: what the sweep starts from, by its name.
        space: what varies: spaces that come with reidray, by name, or YAML files.
        base: YAML file of a training's keys, over those of the recipe.
        task: what is trained; multitask is pets and attributes, as the recipe says.
        num_samples: trials to start.
        budget_minutes: end the whole job within this time, from its start to the report; trials
            that then still train are stopped.
        search: random draws each trial anew, tpe learns from those before it, pbt changes the
            settings of weak trials while they train.
        stop_early: whether trials that fall behind are stopped (ASHA).
        first_rung: epochs that every trial is given before it can be stopped, or changed by pbt.
        concurrent: most trials at once; by default as many as the cluster has places for.
        cpus_per_trial: CPUs of each training process, where it has no GPU.
        seed: of the draws; the trainings keep the recipe's seed.
        resume: go on with the sweep in the output folder, with the same time again; trials that the
            budget stopped stay stopped. Ray Tune keeps a sweep as pickles, which run code when
            read: resume none that you did not begin.
    """

    data: str
    output: str
    recipe: str
    space: tuple[str, ...]
    base: str | None = None
    layout: str | None = None
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
        require(bool(self.space), "space must name what varies")
        for name in ("num_samples", "first_rung", "cpus_per_trial"):
            require(getattr(self, name) >= 1, f"{name.replace('_', '-')} must be 1 or more")
        require(
            self.budget_minutes is None or 0 < self.budget_minutes <= MAX_MINUTES,
            f"budget-minutes must be above 0 and at most {MAX_MINUTES}, a year",
        )
        require(self.num_samples <= MAX_TRIALS, f"num-samples must be {MAX_TRIALS} or fewer")
        require_seed(self.seed, "seed")
        require(self.concurrent is None or self.concurrent >= 1, "concurrent must be 1 or more")
