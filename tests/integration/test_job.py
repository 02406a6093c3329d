import json
import os
import re
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
import yaml
from support.paths import ROOT

from reidray.cli.arguments import SessionConfig, parse_arguments
from reidray.cli.flags import SYNONYMS, flags_of
from reidray.config import QuickstartConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.comparison import CompareConfig
from reidray.config.films import RecommendConfig
from reidray.config.loading import recipe_files
from reidray.config.scoring import EvaluateConfig, ForgetConfig, ScoreConfig
from reidray.config.sections.open_section import config_to_dict
from reidray.config.tuning import TuneConfig
from reidray.errors import UserError


def bomb(line, alias, first="a: &a [x, x, x]"):
    """YAML each of whose lines names the one before nine times."""
    names = "abcdefghijk"
    pairs = zip(names[1:], names, strict=False)
    return "\n".join([first, *(line.format(n, ", ".join([alias.format(m)] * 9)) for n, m in pairs)])


def parse(*arguments):
    return parse_arguments(TrainReidConfig, ["--data", "crops", *arguments])


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
    file = write(tmp_path, yaml.safe_dump(config_to_dict(config)))
    assert parse_arguments(TrainReidConfig, ["--config", file]).config == config


@pytest.mark.parametrize("text", ["network: bomb.yaml", "network: bomb.Bomb", "batch: [bomb.B]"])
def test_a_file_cannot_name_code_to_be_imported(tmp_path, monkeypatch, text):
    (tmp_path / "bomb.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = write(tmp_path, f"data: crops\n{text}\n")
    with pytest.raises(UserError, match="expected keys of its own below it"):
        parse("--config", file)
    assert "bomb" not in sys.modules


@pytest.mark.parametrize("name", sorted(recipe_files("reid")))
def test_every_recipe_for_people_is_valid(name):
    parse("--recipe", name)


@pytest.mark.parametrize("name", sorted(recipe_files("multitask")))
def test_every_multitask_recipe_is_valid(name):
    arguments = ["--data", "images", "--recipe", name]
    parse_arguments(TrainMultitaskConfig, arguments)


def test_resume_takes_the_run_s_configuration(tmp_path):
    (tmp_path / "config.yaml").write_text("data: there\nepochs: 3\n")
    asked = parse_arguments(TrainReidConfig, ["--resume", str(tmp_path)])
    assert (asked.config.data, asked.config.epochs) == ("there", 3)
    assert asked.resume == str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--recipe", "dmo"], "recipe 'dmo' does not exist: did you mean 'demo'"),
        (["--num-workrs", "2"], "--num-workrs does not exist: did you mean --num-workers"),
        (["--num_workers", "2"], "--num_workers does not exist: did you mean --num-workers"),
        (["--num-workers", "0"], "^--num-workers must be 1 or more"),
        (["--num-workers", "two"], "^--num-workers 'two': expected a whole number$"),
        (["--num-workers"], "^--num-workers has no value: expected a whole number$"),
        (["--wait-for-resources", "-5s"], "^--wait-for-resources is '-5s': expected a time"),
        (["--epochs=1.5"], "^--epochs '1.5': expected a whole number$"),
        (
            ["--epochs", "1" * 5000],
            "^--epochs '1{77}...': expected a whole number of at most 18",
        ),
        (["--max-minutes", "long"], "^--max-minutes 'long': expected a number$"),
        (["--max-minutes", "nan"], "^--max-minutes 'nan': expected a number$"),
        (["--optimizer.milestones", "0.5"], "expected a list such as"),
        (["--optimizer.name", "adamx"], "'adamx': expected adamw, adam, sgd or rmsprop$"),
        (["--strict=yes"], "^--strict takes no value"),
        (
            ["--batch.spread-cameras", "False"],
            r"takes no value: leave out 'False'; --batch\.spread-cameras says yes and "
            r"--no-batch\.spread-cameras no$",
        ),
        (["--strict", "stray"], "^'stray' belongs to no flag"),
        (["--data", "a\0b"], "expected text"),
        (["--batch.crops", "1"], "the triplet loss needs --batch.crops of 2 or more"),
        (["--network.height", "8"], r"^--network\.height must lie in 16\.\."),
        (["--optimizer.learning-rate", "0"], r"^--optimizer\.learning-rate must be above 0"),
        (
            ["--recipe", "?"],
            r"recipe '\?' does not exist: choose one of apr_resnet50, apr_trento, bot_resnet50,",
        ),
        (["--resume", "no/run"], "^--resume 'no/run': no such folder"),
        (["--resume", "tests"], "^--resume tests has no config.yaml"),
        (["--config", ""], "^--config '': expected the name of a YAML file"),
        (["--config", "tests"], "tests cannot be read: Is a directory"),
        (["--s3-endpoint", "http://key:secret@host"], "--s3-endpoint: expected http://HOST:PORT"),
        (["-e", "3"], "^flag -e does not exist: --help explains every flag"),
        (["--quux", "3"], "^flag --quux does not exist: --help explains every flag"),
        (["--config", "no/such.yaml"], "no/such.yaml cannot be read"),
        (["--epochs", "3", "stray"], "^'stray' belongs to no flag"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(arguments, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--lr", "--optimizer.learning-rate"),
        ("--learning-rate", "--optimizer.learning-rate"),
        ("--wd", "--optimizer.weight-decay"),
        ("--batch-size", "--batch.people and --batch.crops"),
        ("--workers", "--num-workers"),
        ("--gpus", "--use-gpu"),
        ("--out-dir", "--output"),
        ("--dataset", "--data"),
        ("--checkpoint", "--resume"),
        ("--weights", "--network.weights"),
        ("--margin", "--loss.margin(?: or --loss[.][a-z-]+[.]margin)+"),
        ("--epoch", "--epochs"),
        ("--size", "--network.height and --network.width"),
        ("--image-size", "--network.height and --network.width"),
    ],
)
def test_what_other_tools_call_a_flag_is_known(typed, meant):
    with pytest.raises(UserError, match=f"{typed} does not exist: did you mean {meant}[?]$"):
        parse(typed, "3")


@pytest.mark.parametrize(
    ("config", "typed", "meant"),
    [
        (TrainMultitaskConfig, "--batch-sz", "--batch-size"),
        (ScoreConfig, "--model-dir", "--model"),
        (ScoreConfig, "--checkpoint", "--model"),
        (ScoreConfig, "--out", "--output"),
        (ScoreConfig, "--query", "--queries"),
        (QuickstartConfig, "--folder", "--output"),
    ],
)
def test_a_synonym_stands_for_the_flag_that_the_job_has(config, typed, meant):
    with pytest.raises(UserError, match=f"did you mean {meant}[?]$"):
        parse_arguments(config, [typed, "x"])


def test_what_is_missing_is_named_with_an_example():
    with pytest.raises(UserError, match=r"^--queries and --output are missing, as in: .* --model"):
        parse_arguments(ScoreConfig, ["--model", "m", "--gallery", "g"], example="--model m")


def test_every_synonym_stands_for_flags_of_some_job():
    configs = (TrainReidConfig, TrainMultitaskConfig, QuickstartConfig, ScoreConfig, SessionConfig)
    others = (EvaluateConfig, ForgetConfig, TuneConfig, CompareConfig, RecommendConfig)
    known = set(flags_of(*configs)) | set(flags_of(*others)) | {"config", "resume", "s3-endpoint"}
    assert {name for meant in SYNONYMS.values() for name in meant} <= known


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("optimiser: {}\n", "key 'optimiser' does not exist: did you mean 'optimizer'"),
        (
            "loss: {triplets: 1}\n",
            "key 'loss.triplets' does not exist: did you mean 'loss.triplet'",
        ),
        ("epochs: many\n", "key 'epochs' is 'many': expected a whole number"),
        ("epochs:\n", "key 'epochs' is empty: expected a whole number"),
        (f"epochs: {'1' * 20}\n", "is 1{20}: expected a whole number of at most 18 digits"),
        ("epochs: true\n", "key 'epochs' is True: expected a whole number"),
        ("output: 2026-01-01\n", "key 'output' is .*: expected text"),
        (f"epochs: {'1' * 5000}\n", "is not YAML"),
        ("loss: {quux: 1}\n", "key 'loss.quux' does not exist: it has identity, triplet"),
        ("network: {height: 1000000}\n", "yaml: network.height must lie in"),
        ("", "holds no keys"),
        ("a: \0\n", "is not YAML"),
        ("a: " + "[" * 5000, "is not YAML: its values lie too deep"),
        ("a: " + "[" * 50 + "]" * 50, "is not YAML: values lie within each other"),
        ("a: &a [*a]", "is not YAML: values lie within each other"),
        ("a: " + "x" * 100_000, "has more than 50,000 bytes"),
        (bomb("{0}: &{0} [{1}]", "*{}"), "holds more than 10,000 values"),
        (bomb("{0}: &{0}\n  <<: [{1}]", "*{}", first="a: &a {x: 1, y: 2}"), "too many keys"),
        ("epochs: -1\n", "epochs must lie in 1..1000000"),
        ("- a list\n", "holds no keys"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_wrong_key_is_one_line_with_the_nearest_that_exists(tmp_path, text, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        parse("--config", write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_numbers_in_a_file_may_be_written_as_anywhere_else(tmp_path):
    file = write(tmp_path, "optimizer: {learning_rate: 1e-3}\nmax_minutes: 20\n")
    config = parse("--config", file).config
    assert config.optimizer.learning_rate == 0.001
    assert config.max_minutes == 20


def test_a_configuration_may_come_through_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    Thread(target=(tmp_path / "pipe").write_text, args=("epochs: 7\n",)).start()
    assert parse("--config", str(tmp_path / "pipe")).config.epochs == 7


JOBS = sorted(path.name for path in (ROOT / "jobs").glob("*.py"))


@pytest.mark.parametrize("job", JOBS)
def test_a_job_explains_itself_and_shows_how_it_is_called(job):
    explained = run_job_file(job, "--help")
    assert (explained.returncode, explained.stderr) == (0, "")
    assert " at 0x" not in explained.stdout
    if job == "quickstart.py":  # it runs without arguments
        return
    done = run_job_file(job)
    assert (done.returncode, done.stdout) == (2, "")
    example = next(line for line in done.stderr.splitlines() if line.startswith("example: "))
    flags = [word for word in example.split() if word.startswith("--")]
    assert flags
    assert all(flag in explained.stdout for flag in flags)


def test_a_job_tells_its_version():
    assert run_job_file("embed.py", "--version").stdout == f"reidray {version('reidray')}\n"


def test_a_job_prints_the_configuration_that_it_would_run(tmp_path):
    flags = ("--data", "crops", "--recipe", "demo", "--batch.people", "8")
    done = run_job_file("train_reid.py", *flags, "--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    again = parse("--config", write(tmp_path, done.stdout))
    assert again.config == parse("--recipe", "demo", "--batch.people", "8").config


def test_help_names_other_flags_and_not_fields():
    explained = " ".join(run_job_file("evaluate.py", "--help").stdout.split())
    assert "reid_test.txt to evaluate, with --truth or --gallery" in explained
    assert "do not stop trials" in " ".join(run_job_file("tune.py", "--help").stdout.split())


def test_usage_and_version_that_nobody_can_read_change_no_status():
    job = ROOT / "jobs" / "train_reid.py"
    with Path("/dev/full").open("w") as full:
        usage = subprocess.run([sys.executable, job], stderr=full, check=False)
        told = subprocess.run([sys.executable, job, "--version"], stdout=full, check=False)
    assert (usage.returncode, told.returncode) == (2, 0)


@pytest.mark.parametrize(
    ("job", "arguments", "complaint"),
    [
        ("train_reid.py", "--data none", "--data /.*/none: no such folder or manifest"),
        ("train_reid.py", "--data jobs --network.name yolo", "--network.name 'yolo' does not"),
        (
            "train_reid.py",
            "--data jobs --network.weights none.bin",
            "--network.weights /.*: no such",
        ),
        ("train_reid.py", "--data jobs", "/.*/jobs: no layout recognised"),
        ("train_reid.py", "--data jobs --layout yolo", "layout 'yolo' is not known"),
        ("compare.py", "--data jobs --output o", "/.*/jobs: no layout recognised"),
        (
            "tune.py",
            "--data jobs --recipe demo --space loss --output o",
            "/.*/jobs: no layout recognised",
        ),
        ("train_multitask.py", "--task pets --data none", "--data /.*: no such folder"),
        ("tune.py", "--data none --recipe demo --space loss --output o", "--data .*: no such"),
        ("tune.py", "--data jobs --recipe yolo --space loss --output o", "recipe 'yolo' does not"),
        ("tune.py", "--data jobs --recipe demo --space yolo --output o", "space 'yolo' is no file"),
        (
            "score_nightly.py",
            "--model none --queries q --gallery g --output o",
            "--model .*: no such",
        ),
        ("score_nightly.py", "--model jobs --queries q --gallery g --output o", ".* no model.json"),
        ("evaluate.py", "--ranking none --truth t", "--ranking .*: no such file"),
        ("evaluate.py", "--ranking /dev/null --truth t", "--ranking .*: is a pipe or a device"),
        ("evaluate.py", "--model none --data jobs", "--model .*: no such folder"),
        ("compare.py", "--data none --output o", "--data .*: no such folder"),
        ("compare.py", "--data jobs --models a=none --output o", "--models a .*: no such folder"),
        ("recommend.py", "--ratings none --movies none", "--ratings .*: no such file"),
        ("forget.py", "--store none --image x", "--store .*: no such folder"),
    ],
)
def test_a_wrong_path_is_told_before_pytorch_and_ray_load(tmp_path, job, arguments, complaint):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.jpg").touch()
    environment = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = run_job_file(job, *arguments.split(), cwd=tmp_path, env=environment)
    assert done.returncode == 2
    told = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in told if line.startswith("import time")}
    assert "reidray.config.loading" in imported
    assert not imported & {"torch", "ray", "sklearn", "timm"}
    messages = [line for line in told if not line.startswith("import time")]
    assert len(messages) == 1
    assert re.match(f"error: {complaint}", messages[0]), messages


def run_job_file(job, *arguments, **settings):
    return subprocess.run(
        [sys.executable, ROOT / "jobs" / job, *arguments],
        capture_output=True,
        text=True,
        check=False,
        **settings,
    )


def run_script(body):
    script = f"""
        from reidray.errors import MachineError, UserError
        from reidray.cli.job import run_job
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


def test_a_failure_of_machines_is_one_line_without_traceback_and_exits_1():
    done = run_script("raise MachineError('the worker on b gives no answer')")
    assert (done.returncode, done.stdout) == (1, "chatter\n")
    assert done.stderr == "error: the worker on b gives no answer\n"


def test_a_full_disk_is_one_line_without_traceback_and_exits_1(tmp_path):
    file = tmp_path / "scores"
    done = run_script(
        "import resource, pathlib; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9)); "
        f"pathlib.Path({str(file)!r}).write_bytes(bytes(20000))"
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: the disk: cannot be written (File too large): make room, and run the job again\n"
    )


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        (
            "OSError(28, 'No space left on device', 'scores')",
            1,
            "scores: cannot be written (No space left on device): make room, and run the job again",
        ),
        ("MachineError('the worker on b gives no answer')", 1, "the worker on b gives no answer"),
        ("UserError('folder x is not there')", 2, "folder x is not there"),
    ],
)
def test_an_error_of_a_ray_task_is_told_as_that_of_the_job(raised, status, told):
    done = run_script(
        "from ray.exceptions import RayTaskError; "
        f"raise RayTaskError('task', 'its traceback', {raised}).as_instanceof_cause()"
    )
    assert done.returncode == status
    assert done.stderr == f"error: {told}\n"


def test_a_thread_that_a_full_disk_ends_is_one_line():
    done = run_script(
        "import threading; full = OSError(28, 'No space left on device'); "
        "thread = threading.Thread(target=(_ for _ in ()).throw, args=(full,)); "
        "thread.start(); thread.join(); return {}"
    )
    assert done.returncode == 0
    assert done.stderr == (
        "warning: the disk: cannot be written (No space left on device): make room, and run the "
        "job again\n"
    )


def test_a_failure_shows_its_traceback_and_exits_1():
    done = run_script("raise KeyError('bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
