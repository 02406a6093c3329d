"""What the recommendation job may be told."""

from dataclasses import dataclass, field
from typing import Literal

from reidray.config.parts import require_seed

MAX_STATES = 100_000
MAX_CLUSTERS = 1_000


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """The mixtures tried.

    Attributes:
        random_states: how many random starts are tried, each with every number of clusters.
        min_clusters: the smallest number of clusters tried.
        max_clusters: the largest; more than 12 clusters of a few hundred users hold too few.
        covariance: shape of a cluster. Genres go together, and full, which follows that, has the
            lowest BIC on MovieLens; diag needs fewer users.
        regularisation: variance in squared stars added to every genre; 0.001 is 0.03 stars.
            Without it a cluster collapses onto users whose unseen genres all hold their own mean.
        max_iterations: of a fit; one that has not converged by then is noted.
    """

    random_states: int = 50
    min_clusters: int = 1
    max_clusters: int = 12
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"
    regularisation: float = 1e-3
    max_iterations: int = 200

    def __post_init__(self) -> None:
        for name in ("random_states", "min_clusters", "max_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"sweep.{name.replace('_', '-')} must be 1 or more")
        for name, most in (("random_states", MAX_STATES), ("max_clusters", MAX_CLUSTERS)):
            if getattr(self, name) > most:
                raise ValueError(f"sweep.{name.replace('_', '-')} must be {most} or less")
        if self.max_clusters < self.min_clusters:
            raise ValueError("sweep.max-clusters must be sweep.min-clusters or more")
        if not 0 < self.regularisation < 1:
            raise ValueError("sweep.regularisation must be above 0 and under 1")

    @property
    def cluster_counts(self) -> range:
        """The numbers of clusters tried, in order."""
        return range(self.min_clusters, self.max_clusters + 1)


@dataclass(frozen=True, kw_only=True)
class RecommendConfig:
    """Whom to recommend films to, and from what.

    Attributes:
        ratings: CSV file with the columns userId, movieId and rating, as MovieLens has it.
        movies: CSV file with the columns movieId, title and genres, which | separates.
        users: ids of the users whose lists are shown; recommendations.csv has everybody's.
        output: new or empty folder, or s3:// URI, for recommendations.csv, clusters.json and
            report.html.
        top_k: films in a list.
        seed: of the random starts and of the map of users.
        sweep: the mixtures tried.
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
            raise ValueError("top-k must be 1 or more")
        require_seed(self.seed, "seed")
        if twice := [user for user in self.users if self.users.count(user) > 1]:
            raise ValueError(f"users names {twice[0]} twice; name each user once")
