"""Configure the recommendation of films."""

from dataclasses import dataclass, field
from typing import Literal

from reidray.config.sections.limits import require_seed

MAX_STATES = 100_000
MAX_CLUSTERS = 1_000


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Hold the Gaussian mixtures that a sweep fits.

    Attributes:
        random_states: number of random states, each with every number of clusters: from 0 on where
            `seed` is 0.
        min_clusters: smallest number of clusters.
        max_clusters: largest number of clusters; of a few hundred users, more than 12 clusters
            hold too few each.
        covariance: shape of a cluster. full follows the correlation of genres and has the lowest
            BIC on MovieLens; diag needs fewer users.
        regularisation: variance that is added to every genre, in squared stars; 0.001 is 0.03
            stars. Without it a cluster collapses onto users whose unseen genres all hold their
            own mean.
        max_iterations: most iterations of a fit; a note names the fits that have not converged.
    """

    random_states: int = 51
    min_clusters: int = 1
    max_clusters: int = 12
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"
    regularisation: float = 1e-3
    max_iterations: int = 200

    def __post_init__(self) -> None:
        for name in ("random_states", "min_clusters", "max_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"`sweep.{name}` must be 1 or more")
        for name, most in (("random_states", MAX_STATES), ("max_clusters", MAX_CLUSTERS)):
            if getattr(self, name) > most:
                raise ValueError(f"`sweep.{name}` must be {most} or less")
        if self.max_clusters < self.min_clusters:
            raise ValueError("`sweep.max_clusters` must be `sweep.min_clusters` or more")
        if not 0 < self.regularisation < 1:
            raise ValueError("`sweep.regularisation` must be above 0 and under 1")

    @property
    def cluster_counts(self) -> range:
        """Return the numbers of clusters in ascending order."""
        return range(self.min_clusters, self.max_clusters + 1)


@dataclass(frozen=True, kw_only=True)
class RecommendConfig:
    """Hold the options of a recommendation.

    Attributes:
        ratings: CSV file with the columns userId, movieId and rating, as in MovieLens.
        movies: CSV file with the columns movieId, title and genres, separated by |.
        users: ids of the users whose lists are shown; recommendations.csv holds all users.
        output: folder or s3:// URI for recommendations.csv, clusters.json and report.html; they
            replace an earlier output.
        top_k: number of films in a list.
        seed: seed of the random starts and of the map of users.
        sweep: mixtures to fit.
    """

    ratings: str
    movies: str
    users: tuple[int, ...] = ()
    output: str | None = None
    top_k: int = 5
    seed: int = 0
    sweep: SweepConfig = field(default_factory=SweepConfig)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError("`top_k` must be 1 or more")
        require_seed(self.seed, "`seed`")
        if twice := [user for user in self.users if self.users.count(user) > 1]:
            raise ValueError(f"`users` names {twice[0]} twice: name each user once")
