import json
import subprocess
import sys
import textwrap
from dataclasses import asdict

import pytest
import yaml

from reidray.arguments import recipes
from reidray.config import TrainMultitaskConfig, TrainReidConfig
from reidray.errors import UserError
from reidray.job import parse_config


def parse(*arguments):
    return parse_config(TrainReidConfig, ["--data", "crops", *arguments], trains="reid")


def write(tmp_path, text):
    file = tmp_path / "some.yaml"
    file.write_text(text)
    return str(file)


def test_flags_win_over_the_file_and_the_file_over_the_recipe(tmp_path):
    recipe = parse("--recipe", "demo").config
    file = write(tmp_path, "epochs: 7\noptimizer:\n  learning_rate: 0.5\n")
    config = parse("--epochs", "9", "--config", file, "--recipe", "demo").config
    assert config.epochs == 9
    assert config.optimizer.learning_rate == 0.5
    assert config.network == recipe.network != parse().config.network


def test_a_printed_configuration_is_read_back_as_it_was(tmp_path):
    config = parse("--recipe", "demo", "--val-fraction", "0.2", "--strict").config
    file = write(tmp_path, yaml.safe_dump(json.loads(json.dumps(asdict(config)))))
    assert parse_config(TrainReidConfig, ["--config", file]).config == config


@pytest.mark.parametrize("text", ["network: bomb.yaml", "network: bomb.Bomb", "batch: [bomb.B]"])
def test_a_file_cannot_name_code_to_be_imported(tmp_path, monkeypatch, text):
    (tmp_path / "bomb.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = write(tmp_path, f"data: crops\n{text}\n")
    with pytest.raises(UserError, match="expected keys of its own below it"):
        parse("--config", file)
    assert "bomb" not in sys.modules


@pytest.mark.parametrize("name", sorted(recipes("reid")))
def test_every_recipe_for_people_is_valid(name):
    parse("--recipe", name)


@pytest.mark.parametrize("name", sorted(recipes("multitask")))
def test_every_multitask_recipe_is_valid(name):
    arguments = ["--data", "images", "--recipe", name]
    parse_config(TrainMultitaskConfig, arguments, trains="multitask")


def test_resume_takes_the_run_s_configuration(tmp_path):
    (tmp_path / "config.yaml").write_text("data: there\nepochs: 3\n")
    asked = parse_config(TrainReidConfig, ["--resume", str(tmp_path)], trains="reid")
    assert (asked.config.data, asked.config.epochs) == ("there", 3)
    assert asked.resume == str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--recipe", "dmo"], "recipe 'dmo' does not exist: did you mean 'demo'"),
        (["--num-workrs", "2"], "--num-workrs does not exist: did you mean --num-workers"),
        (["--num-workers", "0"], "num-workers must be 1 or more"),
        (["--num-workers", "two"], "num_workers"),
        (["--optimizer.name", "adamx"], "adamx"),
        (["--batch.crops", "1"], "the triplet loss needs batch.crops of 2 or more"),
        (["--config", "no/such.yaml"], "no/such.yaml cannot be read"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(arguments, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("optimiser: {}\n", "key 'optimiser' does not exist: did you mean 'optimizer'"),
        (
            "loss: {triplets: 1}\n",
            "key 'loss.triplets' does not exist: did you mean 'loss.triplet'",
        ),
        ("epochs: many\n", "epochs"),
        ("epochs: -1\n", "epochs must lie in 1..1000000"),
        ("- a list\n", "holds no keys"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_wrong_key_is_one_line_with_the_nearest_that_exists(tmp_path, text, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        parse("--config", write(tmp_path, text))
    assert "\n" not in str(caught.value)


def run_script(body):
    script = f"""
        from reidray.errors import UserError
        from reidray.job import run_job
        def job():
            print("chatter")
            {body}
        run_job(job)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )


def test_a_finished_job_ends_stdout_with_one_json_line_and_exits_0():
    done = run_script("return {'made': 'x'}")
    assert done.returncode == 0
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["made"] == "x"
    assert last["seconds"] >= 0


def test_a_mistake_is_one_line_without_traceback_and_exits_2():
    done = run_script("raise UserError('folder x is not there: give another')")
    assert done.returncode == 2
    assert done.stderr == "error: folder x is not there: give another\n"


def test_a_mistake_is_one_line_whatever_the_name_it_speaks_of_holds():
    done = run_script(r"raise UserError('file two\nlines\x1b[31m.jpg is not there')")
    assert done.stderr == "error: file two lines\\x1b[31m.jpg is not there\n"


def test_a_failure_shows_its_traceback_and_exits_1():
    done = run_script("raise KeyError('bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
