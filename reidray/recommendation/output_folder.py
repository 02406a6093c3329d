"""Check where a recommendation writes, before Ray loads."""

from reidray.data.output_checks import check_apart
from reidray.data.publishing import check_output
from reidray.recommendation.config import RecommendConfig


def check_recommend_places(config: RecommendConfig) -> None:
    """Refuse an output that a recommendation could not write, or that would mix with its input.

    Raises:
        UserError: says what is wrong.
    """
    if config.output is None:
        return
    inputs = {"--ratings": config.ratings, "--movies": config.movies}
    check_apart(("--output", config.output), inputs)
    check_output(config.output)
