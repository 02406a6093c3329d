"""Check the output of the recommendation job before Ray loads."""

from reidray.config.films import RecommendConfig
from reidray.storage.output_checks import check_disjoint
from reidray.storage.publishing import check_output

LISTS_FILE = "recommendations.csv"
CLUSTERS_FILE = "clusters.json"
REPORT_FILE = "report.html"
RECOMMENDATION_FILES = frozenset({LISTS_FILE, CLUSTERS_FILE, REPORT_FILE})
"""Files of an output, which a later recommendation replaces."""


def check_recommend_output(config: RecommendConfig) -> None:
    """Check that the output can be written and does not overlap with an input.

    Raises:
        UserError: the output cannot be written or overlaps with an input.
    """
    if config.output is None:
        return
    inputs = {"ratings": config.ratings, "movies": config.movies}
    check_disjoint("output", config.output, inputs)
    check_output(config.output, RECOMMENDATION_FILES, CLUSTERS_FILE)
