"""Configure the quickstart."""

from dataclasses import dataclass

from reidray.config.sections.limits import require, require_seed


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Hold the options of the quickstart, which trains and scores on drawn people.

    Attributes:
        output: folder of the demo set, the run directory and the scores; by default a new one
            under runs/.
        seed: seed of the drawings and of training.
        num_workers: number of training processes.
    """

    output: str | None = None
    seed: int = 0
    num_workers: int = 2

    def __post_init__(self) -> None:
        require(self.output != "", "`output` is empty: expected the name of a folder")
        require_seed(self.seed, "`seed`")
        require(self.num_workers >= 1, "`num_workers` must be 1 or more")
