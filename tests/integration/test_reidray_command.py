"""The installed command `reidray`: the jobs as subcommands."""

import json
import subprocess
import sys
import time
from importlib.metadata import version

import pytest
from support.paths import JOBS

from reidray.cli.main import JOB_NAMES, load_job
from reidray.config.loading import describe_files, recipe_files, space_files

MAIN = "from reidray.cli.main import main; main()"


@pytest.fixture(autouse=True)
def _outside_of_uv(monkeypatch):
    """Run the command as in an environment of one's own; `uv run` has another name for it."""
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)


def run_reidray(*words, **settings):
    return subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **settings,
    )


def test_every_script_is_a_subcommand_and_the_other_way_round():
    assert {name.replace("-", "_") for name in JOB_NAMES} == {
        path.stem for path in JOBS.glob("*.py")
    }
    assert [load_job(name).name for name in JOB_NAMES] == list(JOB_NAMES)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_the_help_lists_the_jobs_with_a_line_each(words):
    done = run_reidray(*words)
    assert (done.returncode, done.stderr) == (0, "")
    for name in JOB_NAMES:
        assert f"  {name} " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_the_version_is_that_of_the_package():
    assert run_reidray("--version").stdout == f"reidray {version('reidray')}\n"


def test_a_job_that_does_not_exist_is_named_with_the_nearest():
    done = run_reidray("train_reid")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: job 'train_reid' does not exist: did you mean 'train-reid'?\n"


@pytest.mark.parametrize("name", JOB_NAMES)
def test_the_help_of_a_job_answers_in_a_second_without_pytorch_and_ray(name):
    script = f"import sys\ntry:\n  {MAIN}\nfinally:\n  print(sorted(sys.modules), file=sys.stderr)"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, name, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert time.monotonic() - began < 3  # a busy machine; a free one needs 0.2 s
    assert not {"'torch'", "'ray'", "'pyarrow'"} & set(done.stderr.strip("[]\n").split(", "))
    assert done.stdout.startswith(f"usage: reidray {name}")
    assert "required:" in done.stdout or name in ("quickstart", "evaluate")
    assert "<function" not in done.stdout
    assert "null" not in done.stdout


def test_messages_name_the_command_that_runs():
    done = run_reidray("score-nightly", "--model", "m", "--queries", "q", "--output", "o")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --gallery is missing, as in: reidray score-nightly --")
    assert run_reidray("forget").stderr.splitlines()[2] == "usage:   reidray forget FLAGS"


def test_a_job_runs_as_a_subcommand(tmp_path):
    ranking = tmp_path / "ranking.txt"
    ranking.write_text("a.jpg: b.jpg c.jpg\n")
    done = run_reidray("evaluate", "--ranking", str(ranking), "--truth", str(ranking))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["mean_ap"] == 1


@pytest.mark.parametrize("kind", ["reid", "multitask"])
def test_recipes_are_listed_with_what_they_need_and_reach(kind):
    listed = run_reidray(f"train-{kind}", "--recipe", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = listed.stdout.splitlines()
    recipes = describe_files(recipe_files(kind))
    assert [line.split()[0] for line in lines if line[0] != " "] == list(recipes)
    assert len(lines) == sum(map(len, recipes.values()))
    for name, texts in recipes.items():
        assert [text.split()[0] for text in texts[1:]] == ["Needs", "Reaches"], name
    for texts in (*recipes.values(), *describe_files(space_files(kind)).values()):
        for text in texts:
            assert text.endswith(".")
            assert ":" not in text.split()[0]


@pytest.mark.parametrize("flag", ["recipe", "space"])
def test_a_sweep_lists_recipes_and_spaces_of_both_kinds(flag):
    listed = run_reidray("tune", f"--{flag}=list").stdout
    find = recipe_files if flag == "recipe" else space_files
    for kind in ("reid", "multitask"):
        section = listed.partition(f"--task {kind}:\n")[2]
        for name, texts in describe_files(find(kind)).items():
            assert f"  {name} " in section
            assert all(text in section for text in texts)


def test_an_empty_output_is_refused_and_not_taken_for_the_default(tmp_path):
    done = run_reidray("quickstart", "--output", "", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --output is empty: expected the name of a folder\n"
    assert list(tmp_path.iterdir()) == []


def test_messages_name_the_command_of_uv_where_it_runs_there(monkeypatch):
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert run_reidray("forget").stderr.splitlines()[2] == "usage:   uv run reidray forget FLAGS"
