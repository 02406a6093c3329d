import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.config.scoring import EvaluateConfig
from reidray.errors import UserError
from reidray.evaluation.name_matching import pair_names
from reidray.evaluation.ranking_evaluation import evaluate_ranking_files
from reidray.metrics import evaluate

TRUTH = {"q0.jpg": ["g0.jpg", "g1.jpg"], "q1.jpg": ["g2.jpg"]}
RANKING = {"q0.jpg": ["g0.jpg", "g2.jpg", "g1.jpg"], "q1.jpg": ["g0.jpg", "g2.jpg", "g1.jpg"]}
PLAIN = "q0.jpg: g0.jpg, g2.jpg, g1.jpg\nq1.jpg: g0.jpg, g2.jpg, g1.jpg\n"
MEAN_AP = (5 / 6 + 1 / 2) / 2


def run(folder, ranking=PLAIN, truth=None, **options):
    """Evaluate a ranking against a truth, both as texts."""
    (folder / "ranking.txt").write_bytes(
        ranking if isinstance(ranking, bytes) else ranking.encode()
    )
    if "gallery" not in options:
        (folder / "truth.txt").write_text(truth or json.dumps(TRUTH))
        options["truth"] = str(folder / "truth.txt")
    return evaluate_ranking_files(EvaluateConfig(ranking=str(folder / "ranking.txt"), **options))


def rows(separator, row="{query}{separator}{names}"):
    return "\n".join(
        row.format(query=query, separator=separator, names=separator.join(names))
        for query, names in RANKING.items()
    )


PAIRS = [(query, name, 9 - n) for query, names in RANKING.items() for n, name in enumerate(names)]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (PLAIN, "query: name, name"),
        (PLAIN.encode("utf-16"), "query: name, name"),
        (b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode(), "query: name, name"),
        ("# made by x\n" + PLAIN, "query: name, name, without the lines that begin with #"),
        (PLAIN.replace(", ", "; "), "query: name;name"),
        (PLAIN.replace(", ", "\t"), "query: name<tab>name"),
        (PLAIN.replace(", ", " "), "query: name<space>name"),
        (rows("\t"), "query<tab>name<tab>name"),
        (rows("\t").replace("\n", "\r"), "query<tab>name<tab>name"),
        (rows(" "), "query<space>name<space>name"),
        (rows(","), "query,name,name"),
        (rows(";"), "query;name;name"),
        ("query,1,2,3\n" + rows(","), "query,name,name, with a header"),
        (json.dumps(RANKING), "JSON object, query to list of names"),
        (
            json.dumps({q: [[g, -n] for n, g in enumerate(names)] for q, names in RANKING.items()}),
            "JSON object, query to list of names",
        ),
        ("\n".join(f"{q}: {names}" for q, names in RANKING.items()), "query: [names]"),
        (
            "\n".join(f"{q}: {[(g, 0.5) for g in names]}" for q, names in RANKING.items()),
            "query: [names]",
        ),
        (
            "\n".join(f"'{q}': {', '.join(map(repr, names))}" for q, names in RANKING.items()),
            "query: name,name",
        ),
        (
            "\n".join(f'"{q}","' + '","'.join(names) + '"' for q, names in RANKING.items()),
            "query,name,name",
        ),
        (
            "q0.jpg: g0.jpg 0.9, g2.jpg 0.8, g1.jpg 1e-3\nq1.jpg: g0.jpg 1, g2.jpg 1, g1.jpg 0\n",
            "query: name,name, with scores",
        ),
        (
            "q0.jpg: g0.jpg:0.1, g2.jpg:0.2, g1.jpg:3\nq1.jpg: g0.jpg:1, g2.jpg:1, g1.jpg:10\n",
            "query: name,name, with scores",
        ),
        (
            "q0.jpg: g0.jpg (0.9), g2.jpg(0.8), g1.jpg (0.1)\n"
            "q1.jpg: g0.jpg (9), g2.jpg(8), g1.jpg|1\n",
            "query: name,name, with scores",
        ),
        (
            "q0.jpg: g0.jpg, 0.9, g2.jpg, 0.8, g1.jpg, .1\nq1.jpg: g0.jpg, 1, g2.jpg, 1, g1.jpg, 0",
            "query: name,name, with scores",
        ),
        ("\n".join(f"{q},{g}" for q, g, _ in PAIRS), "query,name,name, a line for each pair"),
        (
            "query,gallery,score\n" + "\n".join(f"{q},{g},{s}" for q, g, s in PAIRS),
            "query,name,name, with a header, with scores, a line for each pair",
        ),
    ],
)
def test_forms_of_other_tools_are_read_and_named(tmp_path, text, form):
    metrics = run(tmp_path, text).metrics
    assert metrics["mean_ap"] == pytest.approx(MEAN_AP)
    assert metrics["ranking_form"] == form


@pytest.mark.parametrize(
    "truth",
    [
        "q0.jpg: g0.jpg, g1.jpg\nq1.jpg: g2.jpg\n",
        "q0.jpg; g0.jpg; g1.jpg\nq1.jpg; g2.jpg\n",
        "q0.jpg\tg0.jpg\tg1.jpg\nq1.jpg\tg2.jpg\n",
        "query,gallery\nq0.jpg,g0.jpg\nq0.jpg,g1.jpg\nq1.jpg,g2.jpg\n",
        "q0.jpg: ['g0.jpg', 'g1.jpg']\nq1.jpg: ['g2.jpg']\n",
    ],
)
def test_a_truth_may_have_the_forms_of_a_ranking(tmp_path, truth):
    metrics = run(tmp_path, truth=truth).metrics
    assert metrics["mean_ap"] == pytest.approx(MEAN_AP)
    assert "JSON" not in metrics["truth_form"]


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        (lambda text: re.sub(r"\bg", "out/gallery/g", text), "folders"),
        (lambda text: text.replace("q0", "C:\\queries\\q0"), "folders"),
        (lambda text: text.replace("g0", "./g0"), "folders"),
        (lambda text: text.replace(".jpg", ""), "suffix"),
        (lambda text: text.upper(), "case or suffix"),
        (lambda text: text.upper().replace(".JPG", ""), "case or suffix"),
        (lambda text: text.replace("g0", "gallery\\g0"), "folders"),
    ],
)
def test_names_that_differ_a_little_are_paired_and_that_is_said(tmp_path, change, differ):
    listed = "".join(f"{query}: {', '.join(names)}\n" for query, names in TRUTH.items())
    for ranking, truth in ((change(PLAIN), None), (PLAIN, change(listed))):
        metrics = run(tmp_path, ranking, truth).metrics
        assert metrics["mean_ap"] == pytest.approx(MEAN_AP)
        assert list(metrics["names_differ_in"]) == [differ]


@pytest.mark.parametrize(
    ("ranking", "named"),
    [
        ("a.jpg: g0.jpg\n", "no query in common: 'a.jpg' is in the one, 'q0.jpg' in the other"),
        ("q0.jpg: x.jpg\n", "no gallery name in common: 'x.jpg' is in the one, 'g0.jpg' in the"),
        ("q0.jpg: g0.png, g1.png\n", "no gallery name in common"),
        (json.dumps({"a.jpg": ["b.jpg"]}), "no query in common"),
        ("q0.jpg: a/g0.jpg, b/g0.jpg, c/g1.jpg\n", "could both be 'g0.jpg'"),
        ('{"q0.jpg": ["g0.jpg"], "q0.jpg": ["g1.jpg"]}', "'q0.jpg' occurs twice"),
        ('{"q0.jpg": {"g0.jpg": 1}}', "'q0.jpg' has no list of gallery names"),
        (PLAIN + "q0.jpg: g0.jpg\n", "line 3: query 'q0.jpg' has an earlier line"),
        (PLAIN.replace("g2", "g0"), "line 1: 'g0.jpg' is ranked twice"),
        ("q0.jpg; g0.jpg; g1.jpg; g0.jpg\n", "line 1: 'g0.jpg' is ranked twice"),
        ("q0.jpg: g0.jpg 1, g1.jpg 3, g2.jpg 2\n", "line 1: the numbers beside the names rise"),
        ("", "no query in common"),
        (rows(" ", "{query} -> {names}"), "line 1: expected `query: name, name`, found 'q0.jpg ->"),
        (rows(" | "), "line 1: expected `query: name, name`, found 'q0.jpg |"),
    ],
)
def test_what_does_not_match_is_refused_in_a_line_with_a_name_of_each_side(
    tmp_path, ranking, named
):
    with pytest.raises(UserError, match=named) as caught:
        run(tmp_path, ranking)
    assert "ranking.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_matches_in_part_is_counted(tmp_path, caplog):
    caplog.set_level("INFO", "reidray")
    result = run(tmp_path, "q0.jpg: g0.jpg, x.jpg\nq7.jpg: g0.jpg\n").metrics
    counts = ("missing", "unknown_queries", "unknown_names", "never_ranked")
    assert [result[key] for key in counts] == [1, 1, 1, 2]
    assert result["mean_ap"] == 1 / 4
    for line in (
        "queries of the truth without a line: 1 (the first is 'q1.jpg')",
        "queries that the truth does not have, left out: 1 (the first is 'q7.jpg')",
        "ranked names that the truth does not have, taken for wrong: 1 (the first is 'x.jpg')",
        "gallery names of the truth that are never ranked: 2 (the first is 'g1.jpg')",
    ):
        assert line in caplog.text


def test_a_ranking_without_any_name_counts_zero_and_that_is_said(tmp_path, caplog):
    caplog.set_level("INFO", "reidray")
    assert run(tmp_path, "q0.jpg:\nq1.jpg:\n").metrics["mean_ap"] == 0
    assert "no line names a gallery image: every query counts 0" in caplog.text


def test_names_that_look_like_another_form_stay_names(tmp_path):
    ranking = "q 0.jpg: a;b.jpg, [c].jpg, d 0.5\n"
    truth = json.dumps({"q 0.jpg": ["d 0.5", "a;b.jpg"]})
    metrics = run(tmp_path, ranking, truth).metrics
    assert (metrics["ranking_form"], metrics["names_differ_in"]) == ("query: name, name", {})
    assert metrics["mean_ap"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_form_whose_names_hold_the_separator_of_another_is_not_taken(tmp_path):
    metrics = run(tmp_path, "q0.jpg: x.jpg, a g0.jpg\nq1.jpg: g2.jpg\n").metrics
    assert (metrics["ranking_form"], metrics["unknown_names"]) == ("query: name, name", 2)
    assert metrics["mean_ap"] == 0.5


PATHS = st.lists(st.sampled_from(["a", "b", "c.jpg", "d.png", "E.JPG"]), min_size=1, max_size=3)


@given(st.sets(PATHS.map("/".join)), st.sets(PATHS.map("/".join)))
def test_pairs_are_one_to_one_and_equal_names_are_always_pairs(names, known):
    pairs = pair_names(names, known)
    assert len(set(pairs.counterparts.values())) == len(pairs.counterparts)
    assert all(pairs.counterparts[name] == name for name in names & known)
    assert set(pairs.counterparts) <= names
    assert set(pairs.counterparts.values()) <= known


def drawn_set(folder, cameras):
    """Make a gallery of empty files; return it with queries, labels and features of all."""
    rng = np.random.default_rng(0)
    people = {"q": [1, 2, 3, 4, 9], "g": [*[1, 2, 3, 4] * 4, 0, 0, -1]}
    seen = {side: rng.integers(1, cameras + 1, len(ids)).tolist() for side, ids in people.items()}
    names = {
        side: [
            f"{p:04d}_c{c}_{n}.jpg" for n, (p, c) in enumerate(zip(ids, seen[side], strict=True))
        ]
        for side, ids in people.items()
    }
    names["g"] = [name.replace("-001", "-1") for name in names["g"]]
    order = np.argsort(names["g"])
    for key in (people, seen, names):
        key["g"] = [key["g"][i] for i in order]
    (folder / "gallery").mkdir()
    for name in names["g"]:
        (folder / "gallery" / name).touch()
    features = {
        side: rng.normal(size=(len(ids), 6)).astype(np.float32) for side, ids in people.items()
    }
    return people, seen, names, features


@pytest.mark.parametrize("protocol", [None, "market1501", "all", "cuhk03"])
@pytest.mark.parametrize("cameras", [1, 3])
def test_a_whole_ranking_has_the_metrics_of_its_features(tmp_path, protocol, cameras):
    people, seen, names, features = drawn_set(tmp_path, cameras)
    distance = np.linalg.norm(features["q"][:, None] - features["g"][None], axis=2)
    lines = [
        f"{query}: " + ", ".join(names["g"][i] for i in np.argsort(row))
        for query, row in zip(names["q"], distance, strict=True)
    ]
    options = {"gallery": str(tmp_path / "gallery"), "protocol": protocol}
    if cameras == 1 and protocol in ("market1501", "cuhk03"):
        with pytest.raises(UserError, match="query's own camera"):
            run(tmp_path, "\n".join(lines), **options)
        return
    metrics = run(tmp_path, "\n".join(lines), **options).metrics
    chosen = protocol or ("market1501" if cameras > 1 else "all")
    labels = (people["q"], people["g"], seen["q"], seen["g"])
    expected = evaluate(features["q"], features["g"], *map(np.array, labels), protocol=chosen)
    assert f"({chosen}, ranking file" in metrics["protocol"]
    assert metrics["mean_ap"] == pytest.approx(expected.mean_ap)
    assert [metrics[f"rank{rank}"] for rank in (1, 5, 10)] == pytest.approx(
        [expected.cmc[rank - 1] for rank in (1, 5, 10)]
    )
    assert metrics["queries_used"] == expected.num_valid_queries
    assert "0009_c" in "".join(metrics["without_match"])


def test_a_gallery_of_one_image_per_person_is_evaluated_single_shot_whatever_the_cameras(
    tmp_path, caplog
):
    caplog.set_level("INFO", "reidray")
    (tmp_path / "gallery").mkdir()
    for name in ("0001_c1_1.jpg", "0002_c1_1.jpg", "0003_c2_1.jpg"):
        (tmp_path / "gallery" / name).touch()
    ranking = "0001_c1_7.jpg: 0001_c1_1.jpg\n0002_c3_7.jpg: 0001_c1_1.jpg, 0002_c1_1.jpg\n"
    gallery = str(tmp_path / "gallery")
    result = run(tmp_path, ranking, gallery=gallery).metrics
    assert "(single_shot, ranking file" in result["protocol"]
    assert (result["mean_ap"], result["queries_used"]) == (0.75, 2)
    assert "the longest line names 2 of 3 gallery images" in caplog.text
    assert (result["longest_line"], result["gallery"]) == (2, 3)
    across = run(tmp_path, ranking, gallery=gallery, protocol="market1501").metrics
    assert (across["mean_ap"], across["queries_used"]) == (0.5, 1)
    assert across["without_match"] == ["0001_c1_7.jpg"]


def test_a_ranking_of_another_gallery_is_refused(tmp_path):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "0001_c1_1.jpg").touch()
    with pytest.raises(UserError, match=r"no name in common: '0007_c1_1\.jpg' is in"):
        run(tmp_path, "0001_c2_1.jpg: 0007_c1_1.jpg\n", gallery=str(tmp_path / "gallery"))
    with pytest.raises(UserError, match=r"ranking\.txt: is empty, expected lines of a ranking"):
        run(tmp_path, "\n", gallery=str(tmp_path / "gallery"))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(json.dumps({query: names}) for query, names in RANKING.items()),
        "\n".join(json.dumps({"query": q, "names": names}) for q, names in RANKING.items()),
        json.dumps(list(RANKING.items())),
        json.dumps([{"query": query, "names": names} for query, names in RANKING.items()]),
        repr(RANKING),
        json.dumps(RANKING, indent=1)[:-1],
    ],
)
def test_json_of_another_form_is_refused_with_the_form_that_is_read(tmp_path, text):
    with pytest.raises(UserError, match="is not a JSON object; write"):
        run(tmp_path, text)


def test_a_query_whose_name_begins_with_a_brace_is_no_json(tmp_path):
    truth = json.dumps({"{a}.jpg": ["[b].jpg"]})
    assert run(tmp_path, "{a}.jpg: [b].jpg\n", truth).metrics["mean_ap"] == 1


def test_slashes_of_either_kind_stand_before_the_names_that_tell_a_person(tmp_path):
    (tmp_path / "gallery").mkdir()
    for name in ("0001_c1_1.jpg", "0002_c1_1.jpg"):
        (tmp_path / "gallery" / name).touch()
    for slash in "/\\":
        names = [f"data{slash}{name}" for name in ("0001_c2_1.jpg", "0001_c1_1.jpg")]
        text = "{}: {}\n".format(*names)
        assert run(tmp_path, text, gallery=str(tmp_path / "gallery")).metrics["rank1"] == 1
