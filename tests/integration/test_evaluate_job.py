import json
import subprocess
import sys

import pytest
from support.feature_sets import two_person_features, write_features
from support.forked_scripts import script_command
from support.paths import ROOT

from reidray.cli.arguments import parse_arguments
from reidray.config.scoring import EvaluateConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.reading.annotations import write_annotations
from reidray.errors import UserError

RANKING = ("--ranking", "r.txt", "--truth", "t.json")
FEATURES = ("--query-features", "q.npz", "--gallery-features", "g.npz")
ATTRIBUTES = ("--attributes", "a.csv", "--attributes-truth", "b.csv")
MODEL = ("--model", "model", "--data", "crops")
RULES = ("--metric", "l1", "--ap-rule", "trapezoid", "--unmatched", "zero", "--rerank")


def run_evaluate(*arguments):
    command = script_command(ROOT / "jobs" / "evaluate.py", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def refused(*arguments):
    done = run_evaluate(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_job_evaluates_both_files_and_prints_one_json_line(tmp_path):
    (tmp_path / "reid_test.txt").write_text("q.jpg:a.jpg,x.jpg,\r\n")
    (tmp_path / "truth.json").write_text(json.dumps({"q.jpg": ["a.jpg"]}))
    codes = dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0)
    (tmp_path / "classification_test.csv").write_bytes(write_annotations([("a.jpg", codes)]))
    done = run_evaluate(
        *("--ranking", tmp_path / "reid_test.txt", "--truth", tmp_path / "truth.json"),
        *("--attributes", tmp_path / "classification_test.csv"),
        *("--attributes-truth", tmp_path / "classification_test.csv"),
        *("--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert (metrics["mean_ap"], metrics["column_accuracy"]) == (1, 1)
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert kept.pop("cmc") == [1, 1]
    assert metrics.items() >= kept.items()
    assert "q.jpg,,,1.0,1,1" in (tmp_path / "out" / "per_query.csv").read_text().splitlines()


def test_job_evaluates_feature_files_and_leaves_a_folder(tmp_path):
    queries, gallery = two_person_features()
    done = run_evaluate(
        *("--query-features", write_features(tmp_path / "q.npz", queries, person=[1, 2])),
        "--gallery-features",
        write_features(tmp_path / "g.parquet", gallery, person=[1, 2, 1, 2]),
        *("--output", tmp_path / "out", "--metric", "cosine"),
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert (metrics["mean_ap"], metrics["rank1"], metrics["queries_used"]) == (1, 1, 2)
    assert "cosine" in metrics["protocol"]
    assert (tmp_path / "out" / "cmc.png").read_bytes().startswith(b"\x89PNG")


def test_job_refuses_what_it_cannot_evaluate_in_one_line(tmp_path):
    assert "--truth" in refused("--ranking", "reid_test.txt")
    query = write_features(tmp_path / "q.npz", two_person_features()[0], person=[1, 2])
    lost = tmp_path / "lost.npz"
    arguments = ("--query-features", query, "--gallery-features", lost)
    assert str(lost) in refused(*arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (*RANKING, "--output", "out", "--max-rank", "20"),
        (*RANKING, *ATTRIBUTES),
        ATTRIBUTES,
        ("--ranking", "r.txt", "--gallery", "gallery"),
        ("--ranking", "r.txt", "--gallery", "gallery", "--protocol", "cuhk03"),
        (*FEATURES, *RULES, "--protocol", "cuhk03", "--output", "out"),
        (*MODEL, *RULES, "--protocol", "all", "--layout", "qut", "--num-workers", "1"),
        (*FEATURES, "--distractor-scores"),
    ],
)
def test_what_may_be_asked_for_together(arguments):
    parse_arguments(EvaluateConfig, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "give one thing to evaluate"),
        ((*RANKING, *FEATURES), "give one thing to evaluate"),
        ((*MODEL, *ATTRIBUTES), "give one thing to evaluate"),
        (FEATURES[:2], "--query-features and --gallery-features belong together"),
        (FEATURES[2:], "--query-features and --gallery-features belong together"),
        (MODEL[2:], "--model and --data belong together"),
        (ATTRIBUTES[:2], "--attributes and --attributes-truth belong together"),
        (RANKING[2:], "--truth goes with --ranking"),
        ((*RANKING, "--gallery", "gallery"), "a ranking needs one truth"),
        ((*RANKING, "--rerank"), "--rerank goes with --query-features or --model"),
        ((*RANKING, "--unmatched", "skip"), "--unmatched goes with --query-features or --model"),
        (
            (*RANKING, "--protocol", "all"),
            "--protocol goes with --query-features or --model or --gallery",
        ),
        ((*RANKING, "--distractor-scores"), "--distractor-scores goes with --query-features or"),
        ((*ATTRIBUTES, "--output", "out"), "--output goes with --ranking or --query-features"),
        ((*FEATURES, "--layout", "qut"), "--layout goes with --model"),
        ((*FEATURES, "--truth", "t.json"), "--truth goes with --ranking"),
        ((*FEATURES, "--max-rank", "0"), "--max-rank must lie in 1.."),
        ((*FEATURES, "--metric", "manhattan"), "manhattan"),
    ],
)
def test_what_does_not_go_together_is_one_line(arguments, named):
    with pytest.raises(UserError, match=named) as caught:
        parse_arguments(EvaluateConfig, list(arguments))
    assert "\n" not in str(caught.value)


def test_a_ranking_that_matches_nothing_is_refused_before_pytorch_loads(tmp_path):
    (tmp_path / "reid_test.txt").write_text("0001_c1_1.jpg: 0007_c1_1.jpg\n")
    (tmp_path / "truth.json").write_text(json.dumps({"q.jpg": ["a.jpg"]}))
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "0002_c1_1.jpg").touch()
    script = (
        "import sys\n"
        "from reidray.cli.jobs.evaluate import JOB\n"
        "try: JOB.main()\n"
        "finally: print('torch' in sys.modules)"
    )
    for truth in (("--truth", "truth.json"), ("--gallery", "gallery")):
        arguments = ("--ranking", tmp_path / "reid_test.txt", truth[0], tmp_path / truth[1])
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert "in common: '0" in done.stderr
        assert done.stdout.splitlines()[-1] == "False"
