"""Recommend films."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.films import RecommendConfig


def recommend(arguments: "JobArguments[RecommendConfig]") -> dict[str, Any]:
    """Recommend films to the users of a ratings file."""
    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.storage.input_checks import check_file
    from reidray.studies.films.recommend_checks import check_recommend_output

    config = arguments.config
    check_file("ratings", config.ratings)
    check_file("movies", config.movies)
    check_recommend_output(config)  # before Ray loads

    with Activity("loading Ray", delay=SHOW_AFTER_SECONDS):
        from reidray.studies.films.recommendation import recommend_films

    session = arguments.session.connect()
    return recommend_films(config, session)


JOB = Job(
    name="recommend",
    description="Recommend films that users with the same taste in genres rated highest.",
    example="--ratings ratings.csv --movies movies.csv --users 4 42",
    config="reidray.config.films:RecommendConfig",
    run=recommend,
)
