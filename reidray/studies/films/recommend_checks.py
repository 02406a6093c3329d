"""Check where a recommendation writes, before Ray loads."""

from reidray.config.films import RecommendConfig
from reidray.storage.output_checks import check_disjoint
from reidray.storage.publishing import check_output


def check_recommend_output(config: RecommendConfig) -> None:
    """Refuse an output that a recommendation could not write, or that would mix with its input.

    Raises:
        UserError: says what is wrong.
    """
    if config.output is None:
        return
    inputs = {"ratings": config.ratings, "movies": config.movies}
    check_disjoint("output", config.output, inputs)
    check_output(config.output)
