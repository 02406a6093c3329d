import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from support.feature_sets import two_person_features, write_features
from support.paths import GOLDEN

from reidray.config.scoring import EvaluateConfig
from reidray.errors import UserError
from reidray.evaluation.evaluation_run import run_evaluation
from reidray.evaluation.feature_evaluation import evaluate_feature_files
from reidray.evaluation.image_labels import check_split_labels


def run(query, gallery, **rules):
    config = EvaluateConfig(query_features=str(query), gallery_features=str(gallery), **rules)
    return evaluate_feature_files(config)


def golden_files(folder, name, suffix):
    """Write the golden features to two files; return these and the metrics of other code."""
    if not GOLDEN.is_dir():
        pytest.skip("the golden feature sets are not beside the checkout")
    arrays = np.load(GOLDEN / f"{name}.npz")
    files = []
    for side in ("query", "gallery"):
        features = arrays[side].astype(np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        labels = {"person": arrays[f"{side}_ids"], "camera": arrays[f"{side}_cameras"]}
        files.append(write_features(folder / f"{side}{suffix}", features, **labels))
    return files, json.loads((GOLDEN / "expected.json").read_text())[name]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("name", ["osnet_market", "made_junk_distractors_orphans"])
def test_metrics_are_those_of_other_people_s_evaluators(tmp_path, name, suffix):
    files, expected = golden_files(tmp_path, name, suffix)
    metrics, curve = run(*files).metrics, run(*files).curve
    market = expected["market1501"]
    assert metrics["mean_ap"] == pytest.approx(market["mean_ap"], abs=1e-6)
    assert metrics["mean_inp"] == pytest.approx(market["mean_inp"], abs=1e-6)
    for rank in (1, 5, 10):
        assert metrics[f"rank{rank}"] == pytest.approx(market["cmc"][str(rank)], abs=1e-6)
    assert curve[19] == pytest.approx(market["cmc"]["20"], abs=1e-6)
    counts = [metrics[key] for key in ("queries", "queries_used", "queries_without_match")]
    used = market["num_valid_queries"]
    assert counts == [expected["queries"], used, expected["queries"] - used]


def test_the_rules_reach_the_figures(tmp_path):
    files, expected = golden_files(tmp_path, "made_junk_distractors_orphans", ".npz")
    layumi = expected["layumi_trapezoid"]
    skipped = run(*files, ap_rule="trapezoid").metrics
    counted = run(*files, ap_rule="trapezoid", unmatched="zero")
    assert skipped["mean_ap"] == pytest.approx(layumi["mean_ap"], abs=1e-6)
    assert counted.metrics["mean_ap"] == pytest.approx(layumi["mean_ap_over_all_queries"], abs=1e-6)
    unmatched = [query for query in counted.queries if query.matches == 0]
    assert len(unmatched) == counted.metrics["queries_without_match"] == 12
    assert {(query.average_precision, query.first_match_rank) for query in unmatched} == {(0, None)}
    assert run(*files, metric="l1").metrics["mean_ap"] != run(*files).metrics["mean_ap"]
    assert "cuhk03" in run(*files, protocol="cuhk03").summary


def test_reranked_metrics_are_those_of_the_reference_code(tmp_path):
    files, expected = golden_files(tmp_path, "osnet_market", ".npz")
    metrics = run(*files, rerank=True).metrics
    assert metrics["mean_ap"] == pytest.approx(expected["rerank"][0]["mean_ap"], abs=1e-5)
    assert metrics["rank1"] == pytest.approx(expected["rerank"][0]["cmc"]["1"], abs=1e-5)
    assert "re-ranked" in metrics["protocol"]


def test_a_threshold_is_found_for_a_false_accept_rate(tmp_path):
    files, _ = golden_files(tmp_path, "made_junk_distractors_orphans", ".npz")
    found = run(*files, false_accept_rate=0.1).metrics["open_set"]
    assert 0.09 < found["false_accept_rate"] <= 0.1
    assert found["false_accept_rate"] < found["true_accept_rate"] < 1
    assert 0 < found["threshold"] < 2
    assert run(*files, false_accept_rate=0.2).metrics["open_set"]["threshold"] > found["threshold"]
    assert "open_set" not in run(*files).metrics


def test_the_curve_ends_with_the_gallery_and_ranks_with_the_curve(tmp_path):
    files, _ = golden_files(tmp_path, "made_short_gallery", ".npz")
    result = run(*files)
    assert len(result.curve) == 38
    assert result.curve[-1] == 1
    short = run(*files, max_rank=5)
    assert short.curve == result.curve[:5]
    assert short.metrics["rank5"] == result.metrics["rank5"]
    assert "rank10" not in short.metrics


@pytest.mark.parametrize(
    ("people", "cameras", "protocol"),
    [
        ([1, 2, 1, 2], [2, 2, 3, 3], "market1501"),
        ([1, 2, 1, 2], None, "all"),
        ([1, 2, 1, 2], [1, 1, 1, 1], "all"),
        ([1, 2, 1, 9], [1, 1, 2, 3], "market1501"),
        ([1, 2, 3, 4], [1, 1, 1, 1], "single_shot"),
        ([1, 2, 0, 4], None, "single_shot"),
        ([1, 2, 3, -1], [2, 2, 2, 2], "market1501"),
    ],
)
def test_the_protocol_is_the_one_that_the_gallery_is_made_for(tmp_path, people, cameras, protocol):
    queries, gallery = two_person_features()
    seen = {} if cameras is None else {"camera": [1, 1]}
    query = write_features(tmp_path / "q.npz", queries, person=[1, 2], **seen)
    seen = {} if cameras is None else {"camera": cameras}
    found = run(query, write_features(tmp_path / "g.npz", gallery, person=people, **seen))
    assert f"({protocol}," in found.metrics["protocol"]
    assert found.metrics["queries_used"] == (1 if 9 in people else 2)


@pytest.mark.parametrize(
    ("query", "gallery", "rules", "named"),
    [
        ({}, {"embedding": np.ones((4, 3))}, {}, "3 values per image: expected the query's 4"),
        ({"embedding": np.full((2, 4), np.nan)}, {}, {}, "query row 0 holds NaN"),
        ({"person": [8, 9]}, {}, {}, "no person in common: '8' is in the one, '1' in the other"),
        ({}, {}, {"protocol": "market1501"}, "query_cameras is None"),
        ({}, {}, {"protocol": "single_shot"}, "person 1 2 times"),
        (
            {"camera": [1, 1]},
            {"camera": [1, 1, 1, 1]},
            {"protocol": "market1501"},
            "query's own camera",
        ),
        ({}, {}, {"rerank": True}, "k1 is 20: expected fewer than the 6 images"),
    ],
)
def test_files_that_do_not_fit_are_one_line_that_names_both(tmp_path, query, gallery, rules, named):
    queries, images = two_person_features()
    columns = {"embedding": queries, "person": [1, 2]} | query
    first = write_features(tmp_path / "q.npz", **columns)
    columns = {"embedding": images, "person": [1, 2, 1, 2]} | gallery
    second = write_features(tmp_path / "g.npz", **columns)
    with pytest.raises(UserError, match=named) as caught:
        run(first, second, **rules)
    assert first in str(caught.value)
    assert second in str(caught.value)
    assert "\n" not in str(caught.value)


NAMES = ('=1+2, "x".jpg', "line\nbreak.jpg", "\ud800.jpg")


def published(tmp_path, **rules):
    """Evaluate three queries: found second, found first, and not in the gallery."""
    queries = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    gallery = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.0, 1.0]], np.float32)
    query = write_features(tmp_path / "q.npz", queries, person=[1, 2, 3], path=NAMES)
    files = {"query_features": query}
    files["gallery_features"] = write_features(tmp_path / "g.npz", gallery, person=[2, 1, 2, 2])
    config = EvaluateConfig(**files, output=str(tmp_path / "out"), **rules)
    return run_evaluation(config)


def test_the_folder_holds_metrics_curve_plot_and_the_worst_queries_first(tmp_path):
    metrics = published(tmp_path)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "cmc.png",
        "evaluation.json",
        "per_query.csv",
    ]
    told = json.loads((out / "evaluation.json").read_text())
    assert told.pop("cmc") == [0.5, 1, 1, 1]
    assert metrics == {"output": str(out), **told}
    assert metrics["rank1"] == 0.5
    with (out / "per_query.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["query"] for row in rows] == [f"'{NAMES[0]}", NAMES[1], "\\ud800.jpg"]
    assert [row["person"] for row in rows] == ["1", "2", "3"]
    assert {row["camera"] for row in rows} == {""}
    precision = [(1 + 1 + 3 / 4) / 3, 0.5]
    assert float(rows[0]["average_precision"]) == pytest.approx(precision[1])
    assert float(rows[1]["average_precision"]) == pytest.approx(precision[0])
    assert [row["first_match_rank"] for row in rows] == ["2", "1", ""]
    assert [row["matches"] for row in rows] == ["1", "3", "0"]
    assert rows[2]["average_precision"] == ""


def test_a_query_that_counts_as_zero_comes_first(tmp_path):
    published(tmp_path, unmatched="zero")
    with (tmp_path / "out" / "per_query.csv").open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert (first["person"], float(first["average_precision"])) == ("3", 0)


def test_an_earlier_evaluation_is_replaced_and_anything_else_is_kept(tmp_path, bucket):
    published(tmp_path)
    before = (tmp_path / "out" / "evaluation.json").read_text()
    published(tmp_path, metric="cosine")
    assert (tmp_path / "out" / "evaluation.json").read_text() != before
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        published(tmp_path)
    with pytest.raises(UserError, match=f"{bucket}-missing/out"):
        run_evaluation(
            EvaluateConfig(
                query_features="no.npz",
                gallery_features="no.npz",
                output=f"{bucket}-missing/out",
            )
        )


def test_a_mistake_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="query_cameras"):
        published(tmp_path, protocol="market1501")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.npz", "q.npz"]


def test_queries_without_names_are_their_rows(tmp_path):
    queries, gallery = two_person_features()
    query = write_features(tmp_path / "q.npz", queries, person=[1, 2])
    result = run(query, write_features(tmp_path / "g.npz", gallery, person=[1, 2, 1, 2]))
    assert [query.query for query in result.queries] == ["0", "1"]


def test_the_distance_to_neighbours_is_evaluated_on_labelled_distractors_and_junk(tmp_path):
    queries, gallery = two_person_features()
    far = np.float32([[5, 5, 5, 5], [-5, 5, -5, 5], [3, 0, 3, 0]])
    files = (
        write_features(tmp_path / "q.npz", queries, person=[1, 2]),
        write_features(
            tmp_path / "g.npz", np.concatenate([gallery, far]), person=[1, 2, 1, 2, 0, 0, -1]
        ),
    )
    result = run(*files, distractor_scores=True).metrics["distractor_scores"]
    assert result["distractors"] == {
        "distractor_score": {"auc": 1, "interval": (1, 1), "distractors": 2, "people": 4}
    }
    junk = result["junk"]["distractor_score"]
    assert (junk["auc"], junk["interval"], junk["distractors"]) == (1, None, 1)
    assert "distractor_scores" not in run(*files).metrics
    plain = write_features(tmp_path / "plain.npz", gallery, person=[1, 2, 1, 2])
    with pytest.raises(UserError, match=r"plain\.npz: .*leave out `distractor_scores`"):
        run(files[0], plain, distractor_scores=True)


def test_an_evaluation_of_people_with_names_says_who_has_which_number(tmp_path):
    queries, gallery = two_person_features()
    files = {
        "query_features": write_features(tmp_path / "q.npz", queries, person=["zoe", "11_1"]),
        "gallery_features": write_features(
            tmp_path / "g.npz", gallery, person=["zoe", "11_1", "zoe", "1_11"]
        ),
    }
    config = EvaluateConfig(**files, output=str(tmp_path / "out"))
    metrics = run_evaluation(config)
    assert (metrics["mean_ap"], metrics["queries_used"]) == (1, 2)
    told = json.loads((tmp_path / "out" / "person_ids.json").read_text())
    assert told == {"11_1": 1, "1_11": 2, "zoe": 3}
    with (tmp_path / "out" / "per_query.csv").open(newline="", encoding="utf-8") as file:
        assert {row["person"] for row in csv.DictReader(file)} == {"1", "3"}
    run_evaluation(config)


def test_images_of_nobody_known_among_others_are_counted_and_named():
    table = pa.table({"path": ["a.jpg", "b.jpg", "c.jpg"], "person": pa.array([1, None, 2])})
    with pytest.raises(
        UserError, match=r"on 1 of 3 query images is unknown \(the first is 'b.jpg'\)"
    ):
        check_split_labels(table, "query", "data")
    with pytest.raises(UserError, match="the people on its query images are unknown; score them"):
        check_split_labels(table.slice(1, 1), "query", "data")
