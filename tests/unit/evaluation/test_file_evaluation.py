import pytest

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.reading.annotations import read_annotations, write_annotations
from reidray.errors import UserError
from reidray.evaluation.ground_truth import RankingGroundTruth, parse_ground_truth
from reidray.evaluation.ground_truth_names import ground_truth_from_names
from reidray.evaluation.ranking_evaluation import evaluate_attributes, evaluate_ranking


def person(**codes):
    return dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0) | codes


def test_average_precision_divides_by_all_correct_names_of_the_truth():
    truth = RankingGroundTruth({"q": frozenset({"a", "b", "c"})})
    metrics = evaluate_ranking({"q": ("x", "a", "y", "b")}, truth).metrics
    assert metrics["mean_ap"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert (metrics["rank1"], metrics["rank5"]) == (0, 1)


def test_missing_query_counts_zero_and_a_query_without_truth_does_not_count():
    truth = RankingGroundTruth({"q": frozenset({"a"}), "lost": frozenset({"a"})})
    metrics = evaluate_ranking({"q": ("a",), "stranger": ("x",)}, truth).metrics
    assert (metrics["mean_ap"], metrics["rank1"], metrics["missing"]) == (0.5, 0.5, 1)
    assert metrics["queries"] == 2


def test_truth_from_names_takes_other_cameras_and_ignores_own_camera_and_junk():
    gallery = ["0001_c1_1.jpg", "0001_c2_2.jpg", "0002_c1_3.jpg", "-1_c3_4.jpg"]
    truth = ground_truth_from_names(["in/0001_c1_9.jpg", "0002_c1_8.jpg"], gallery)
    assert truth.correct == {"in/0001_c1_9.jpg": {"0001_c2_2.jpg"}}
    assert truth.ignored == {"in/0001_c1_9.jpg": {"0001_c1_1.jpg"}}
    assert (truth.junk, truth.unmatched) == ({"-1_c3_4.jpg"}, ("0002_c1_8.jpg",))
    ranked = ("-1_c3_4.jpg", "0001_c1_1.jpg", "0001_c2_2.jpg")
    result = evaluate_ranking({"in/0001_c1_9.jpg": ranked}, truth)
    assert result.metrics["mean_ap"] == 1
    assert result.queries == [
        ("in/0001_c1_9.jpg", 1, 1, 1.0, 1, 1),
        ("0002_c1_8.jpg", 2, 1, None, None, 0),
    ]
    assert result.metrics["queries_without_match"] == 1
    assert result.metrics["without_match"] == ["0002_c1_8.jpg"]
    assert "(market1501, ranking file" in result.metrics["protocol"]


def test_each_query_of_the_truth_has_a_row_and_the_curve_ends_with_the_longest_list():
    correct = {"p": frozenset("ab"), "q": frozenset("c"), "lost": frozenset("a")}
    ranking = {"q": ("a", "b", "c"), "p": ("b", "x")}
    result = evaluate_ranking(ranking, RankingGroundTruth(correct))
    assert result.queries == [
        ("p", None, None, 0.5, 1, 2),
        ("q", None, None, pytest.approx(1 / 3), 3, 1),
        ("lost", None, None, 0, None, 1),
    ]
    assert result.curve == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert (
        evaluate_ranking(ranking, RankingGroundTruth(correct), max_rank=2).curve == result.curve[:2]
    )
    assert evaluate_ranking({}, RankingGroundTruth(correct)).curve == [0]


def test_names_that_tell_nothing_ask_for_a_truth_file():
    with pytest.raises(UserError, match=r"'000000\.jpg'.*`truth=FILE`"):
        ground_truth_from_names(["000000.jpg"], ["0001_c1_1.jpg"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "object"),
        ('{"q": "a"}', "'q'"),
        ('{"q": []}', "'q'"),
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_wrong_truth_files_are_named(tmp_path, text, named):
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(UserError, match=named) as caught:
        parse_ground_truth(path, path.read_bytes())
    assert "truth.json" in str(caught.value)


def test_attribute_accuracy_over_attributes_and_over_columns_with_their_majorities():
    truth = {"a": person(hat=1), "b": person(hat=1), "c": person(upper_colour=3), "d": person()}
    predicted = {name: person(hat=1) for name in ("a", "b", "c")}
    metrics = evaluate_attributes(predicted, truth)
    hat, upper = metrics["attributes"]["hat"], metrics["attributes"]["upper_colour"]
    assert (hat["accuracy"], hat["majority"]) == (2 / 4, 2 / 4)
    assert (upper["accuracy"], upper["majority"]) == (2 / 4, 3 / 4)
    assert metrics["attribute_accuracy"] == pytest.approx((2 / 4 * 2 + 3 / 4 * 10) / 12)
    # c is wrong in hat, upblack and uppurple, and the whole of d is missing.
    assert metrics["column_accuracy"] == pytest.approx((3 * 27 - 3) / (4 * 27))
    assert metrics["column_majority"] == pytest.approx((24 + 2 / 4 + 2 * 3 / 4) / 27)
    assert metrics["missing_images"] == 1


def test_a_row_of_minus_ones_is_a_missing_prediction():
    predicted = read_annotations(write_annotations([("a", person()), ("b", None)]), "a.csv")
    metrics = evaluate_attributes(predicted, {"a": person(), "b": person()})
    assert (metrics["missing_images"], metrics["column_accuracy"]) == (1, 0.5)


def test_attribute_files_without_a_common_image_are_an_error():
    with pytest.raises(UserError, match="no id in common: 'a' is in the one, 'b' in the other"):
        evaluate_attributes({"a": person()}, {"b": person()})


def test_attribute_files_pair_names_that_differ_a_little_unless_it_is_not_clear_which():
    predicted = {"g/a.jpg": person(), "g/c.jpg": person()}
    metrics = evaluate_attributes(predicted, {"a.jpg": person(), "b.jpg": person()})
    assert (metrics["column_accuracy"], metrics["missing_images"]) == (0.5, 1)
    assert metrics["unknown_images"] == 1
    with pytest.raises(UserError, match=r"could both be 'a\.jpg'"):
        evaluate_attributes(predicted | {"h/a.jpg": person()}, {"a.jpg": person()})
