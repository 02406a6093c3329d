import pytest

from reidray.config.scoring import RERANK_NEIGHBOURS, ScoreConfig
from reidray.retrieval import Reranking

WHERE = {name: name for name in ("model", "queries", "gallery", "output")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rerank": -1}, "`rerank` must be 0 or more"),
        ({"expand": -1}, "`expand` must be 0 or more"),
        ({"rerank": 20, "top_k": 5}, "`rerank=20` is too few: expected at least 21"),
        ({"rerank": 30}, "`rerank=30` is too few: expected at least 50"),
        ({"max_distance": -1}, "`max_distance` must be 0 or more"),
    ],
)
def test_options_that_cannot_fill_the_lines_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ScoreConfig(**WHERE, **options)


def test_the_neighbourhood_is_that_of_the_re_ranking():
    assert Reranking().k1 == RERANK_NEIGHBOURS
    ScoreConfig(**WHERE, rerank=RERANK_NEIGHBOURS + 1, top_k=5, expand=1)
