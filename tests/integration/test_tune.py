import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress

import pyarrow.parquet as pq
import pytest
import yaml
from support.sweeps import (
    BASE,
    EPOCHS,
    ROOT,
    SPACE,
    ended_trials,
    finish,
    flags,
    make_inputs,
    start,
)

from reidray.cli.arguments import parse_arguments
from reidray.config import TrainReidConfig
from reidray.config.tuning import TuneConfig
from reidray.errors import UserError
from reidray.models import load_model
from reidray.tuning.sweep import prepare_sweep

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("sweep"))


@pytest.mark.slow
def test_a_killed_sweep_resumes_and_writes_the_table_and_the_best_run(given, ray_address):
    output, on_cluster = given / "killed", ("--ray-address", ray_address)
    sizes = SPACE | {"input_size": {"choice": ["32x16", "48x24"]}}
    (given / "sizes.yaml").write_text(yaml.safe_dump(sizes))
    space = {"space": "sizes.yaml"}
    job = start(given, output, "--num-samples", 5, "--no-stop-early", *on_cluster, **space)
    while not ended_trials(output):
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    job.kill()
    job.communicate()
    before = ended_trials(output)
    assert len(before) < 5

    resumed = ("--num-samples", 5, "--no-stop-early", "--resume", *on_cluster)
    code, stdout, messages = finish(start(given, output, *resumed, **space))
    assert code == 0, messages
    after = ended_trials(output)
    assert len(after) == 5
    assert {name: after[name] for name in before} == before
    result = json.loads(stdout.splitlines()[-1])
    assert stdout.count("\n") == 1
    assert (result["trials"], result["failed"], result["unfinished"]) == (5, 0, 0)
    assert result["epochs_spent"] == result["epochs_asked"] == 5 * EPOCHS

    rows = list(csv.DictReader((output / "trials.csv").open()))
    assert [row["trial"] for row in rows] == list("01234")
    assert {row["batch.people"] for row in rows} <= {"6", "12"}
    assert {row["input_size"] for row in rows} == {"32x16", "48x24"}
    figures = [float(row["attribute_accuracy"]) for row in rows]
    assert max(figures) == pytest.approx(result["attribute_accuracy"], abs=1e-4)
    assert pq.read_table(output / "trials.parquet").num_rows == 5
    assert "Learning curves of all trials" in (output / "report.html").read_text()

    best = yaml.safe_load((output / "best.yaml").read_text())
    assert best["batch"]["people"] == result["best_values"]["batch.people"]
    again = parse_arguments(TrainReidConfig, ["--config", str(output / "best.yaml")])
    assert again.config.optimizer.learning_rate == best["optimizer"]["learning_rate"]
    run = output / "best"
    model = load_model(str(run / "model"))
    height, width = model.architecture.size
    assert f"{height}x{width}" == result["best_values"]["input_size"]
    assert model.card.metrics["attribute_accuracy"] == pytest.approx(max(figures))
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, EPOCHS + 1))
    assert max(epoch["attribute_accuracy"] for epoch in epochs) == pytest.approx(max(figures))
    assert yaml.safe_load((run / "config.yaml").read_text()) == best | {"output": str(run)}
    assert list((run / "tensorboard").iterdir())


@pytest.mark.slow
def test_weak_trials_stop_early_and_the_log_names_failed_ones(given, ray_address, tmp_path):
    space = SPACE | {"optimizer.learning_rate": {"choice": [1e-6, 0.005, 100.0]}}
    (given / "wild.yaml").write_text(yaml.safe_dump(space))
    (given / "sgd.yaml").write_text(yaml.safe_dump(BASE | {"optimizer": {"name": "sgd"}}))
    asked = ("--num-samples", 8, "--first-rung", 1, "--ray-address", ray_address)
    code, stdout, messages = finish(
        start(given, tmp_path / "out", *asked, space="wild.yaml", base="sgd.yaml")
    )
    assert code == 0, messages
    rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").open()))
    failed = [row for row in rows if row["optimizer.learning_rate"] == "100.0"]
    assert failed
    assert all(row["state"] == "failed" for row in failed)
    assert all("lower --optimizer.learning-rate" in row["error"] for row in failed)
    states = [row["state"] for row in rows]
    assert states.count("stopped early") >= 1
    assert set(states) <= {"finished", "stopped early", "failed"}
    result = json.loads(stdout.splitlines()[-1])
    assert result["failed"] == len(failed)
    assert result["epochs_spent"] < result["epochs_asked"]
    assert "failed after epoch 0" in messages


@pytest.mark.slow
def test_a_killed_population_resumes_and_weak_trials_copy_weights(given, ray_address, tmp_path):
    rates = [1e-6, 1e-2]
    space = {
        "optimizer.learning_rate": {"loguniform": rates},
        "loss.mining": {"choice": ["hard", "semihard"]},
    }
    (given / "population.yaml").write_text(yaml.safe_dump(space))
    output, settings = tmp_path / "out", {"space": "population.yaml"}
    asked = ("--search", "pbt", "--num-samples", 4, "--ray-address", ray_address)
    job = start(given, output, *asked, **settings)
    while not (changes := output / "tune" / "pbt_global.txt").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    job.kill()
    job.communicate()

    code, stdout, messages = finish(start(given, output, *asked, "--resume", **settings))
    assert code == 0, messages
    rows = list(csv.DictReader((output / "trials.csv").open()))
    result = json.loads(stdout.splitlines()[-1])
    assert (result["trials"], result["configurations"]) == (4, len(rows))
    assert [row["trial"] for row in rows if row["part"] == "0"] == list("0123")
    assert all(row["copied_from"] in tuple("0123") for row in rows if row["part"] != "0")
    assert all(1 <= int(row["epochs"]) <= EPOCHS for row in rows)
    assert {row["trial"]: row["state"] for row in rows} == dict.fromkeys("0123", "finished")
    model = load_model(str(output / "best" / "model"))
    best = [row for row in rows if int(row["trial"]) == result["best_trial"]][result["best_part"]]
    assert model.card.metrics["attribute_accuracy"] == float(best["attribute_accuracy"])
    records = (output / "best" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in records] == list(range(1, EPOCHS + 1))
    taken = [json.loads(line)[-1] for line in changes.read_text().splitlines()]
    assert all(rates[0] <= change["optimizer.learning_rate"] <= rates[1] for change in taken)
    last = {float(row["optimizer.learning_rate"]) for row in rows}
    assert last & {change["optimizer.learning_rate"] for change in taken}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")  # which of two on a machine is theirs, they have to know
def test_trials_of_several_workers_stop_early_too(given, tmp_path):
    epochs = 3 * EPOCHS  # a trial of fewer epochs may end before Ray Tune stops it
    base = BASE | {"num_workers": 2, "epochs": epochs, "validation": {"every": 2}}
    base |= {"optimizer": {"name": "sgd"}}
    (given / "workers.yaml").write_text(yaml.safe_dump(base))
    space = {"optimizer.learning_rate": {"choice": [1e-6, 0.005, 100.0]}}
    (given / "rates.yaml").write_text(yaml.safe_dump(space))
    output, asked = tmp_path / "out", ("--num-samples", 4, "--ray-address", "local")
    settings = {"space": "rates.yaml", "base": "workers.yaml"}
    code, stdout, messages = finish(start(given, output, *asked, **settings))
    assert code == 0, messages
    rows = list(csv.DictReader((output / "trials.csv").open()))
    ended = {(row["optimizer.learning_rate"], row["state"]): row["epochs"] for row in rows}
    assert ended["0.005", "finished"] == str(epochs)
    assert int(ended["1e-06", "stopped early"]) < epochs
    # Its loss is NaN in epoch 2. Ray Train may not have recorded the checkpoint of epoch 1 by then.
    assert int(ended["100.0", "failed"]) <= 1
    assert "lower --optimizer.learning-rate" in messages + (output / "trials.csv").read_text()
    best = json.loads(stdout.splitlines()[-1])
    assert best["best_values"] == {"optimizer.learning_rate": 0.005}
    model = load_model(str(output / "best" / "model"))
    assert model.card.metrics["attribute_accuracy"] == pytest.approx(
        best["attribute_accuracy"], abs=1e-4
    )


@pytest.mark.slow
def test_a_terminal_shows_a_live_table_until_the_end(given, ray_address, tmp_path):
    asked = flags(given, tmp_path / "out", "--num-samples", 3, "--ray-address", ray_address)
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (40, 100))
    command = [sys.executable, ROOT / "jobs" / "tune.py", *map(str, asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True) as job:
        os.close(follower)
        pieces = []
        with suppress(OSError):  # Linux says so when the other end is closed
            while piece := os.read(leader, 4096):
                pieces.append(piece)
        os.close(leader)
        stdout = job.stdout.read()
    shown = b"".join(pieces).decode()
    assert job.returncode == 0, shown
    assert stdout.count("\n") == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"[012] of 3 trials, best 0\.\d{3}, \d:\d\d:\d\d left", text)
    rows = re.findall(r"│ +(\d) +│ (\w+) +│ (\d)/6 +│", text)
    assert {"running"} < {state for _, state, _ in rows}
    assert {epoch for *_, epoch in rows} >= {"0", "1", "6"}
    assert max(map(len, text.splitlines())) <= 100
    last = shown.rindex("└")
    assert shown.count("\x1b[1A\x1b[2K", last) >= len({number for number, *_ in rows})


@pytest.mark.slow
def test_an_interrupted_sweep_leaves_its_table(given, ray_address, tmp_path):
    output = tmp_path / "out"
    job = start(given, output, "--num-samples", 6, "--ray-address", ray_address)
    while not ended_trials(output):
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    job.send_signal(signal.SIGINT)
    code, stdout, messages = finish(job)
    assert (code, stdout) == (130, ""), messages
    assert messages.splitlines()[-1].startswith("interrupted: go on with ")
    assert messages.rstrip().endswith("--resume")
    rows = list(csv.DictReader((output / "trials.csv").open()))
    assert "unfinished" in {row["state"] for row in rows}

    resumed = ("--num-samples", 6, "--resume", "--ray-address", ray_address)
    code, stdout, after = finish(start(given, output, *resumed))
    assert code == 0, after
    rates = {
        row["trial"]: f"{float(row['optimizer.learning_rate']):.3g}"
        for row in csv.DictReader((output / "trials.csv").open())
    }
    told = re.findall(r"^trial (\d+) .* optimizer\.learning_rate (\S+)$", messages + after, re.M)
    assert len(told) == len(rates) == 6
    assert dict(told) == rates
    assert f"the best is trial {json.loads(stdout.splitlines()[-1])['best_trial']}, " in after


@pytest.mark.slow
def test_a_budget_shorter_than_an_epoch_leaves_nothing(given, ray_address, tmp_path):
    asked = ("--budget-minutes", 0.01, "--ray-address", ray_address)
    code, stdout, messages = finish(start(given, tmp_path / "out", *asked))
    assert (code, stdout) == (2, "")
    assert "within 0.01 minutes: raise --budget-minutes" in messages.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--output", "reidray"], "is not an empty folder"),
        (["--resume"], "holds no sweep to resume"),
        (["--recipe", "dmo"], "did you mean 'demo'"),
        (["--search", "pbt"], r"'batch\.people' cannot change"),
        (["--data", "no/such/folder"], "no such folder"),
    ],
)
def test_invalid_settings_are_refused_before_ray_starts(given, tmp_path, more, complaint):
    asked = [str(flag) for flag in flags(given, tmp_path / "out", *more)]
    with pytest.raises(UserError, match=complaint):
        prepare_sweep(parse_arguments(TuneConfig, asked).config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("drawn", "complaint"),
    [
        ({"choice": [12, 64]}, r"batch\.people 64: a batch of 64 people x 4 crops needs 64 people"),
        ({"randint": [6, 31]}, r"batch\.people 31: .* show 30"),
    ],
)
def test_values_that_the_images_do_not_allow_are_refused_before_ray_starts(
    given, tmp_path, drawn, complaint
):
    (tmp_path / "crowds.yaml").write_text(yaml.safe_dump({"batch.people": drawn}))
    asked = flags(given, tmp_path / "out", space=tmp_path / "crowds.yaml")
    with pytest.raises(UserError, match=complaint):
        prepare_sweep(parse_arguments(TuneConfig, [str(flag) for flag in asked]).config)
    assert not (tmp_path / "out").exists()


def test_trials_of_several_workers_need_a_dashboard(given, ray_address, tmp_path):
    (given / "two.yaml").write_text(yaml.safe_dump(BASE | {"num_workers": 2}))
    job = start(given, tmp_path / "out", "--ray-address", ray_address, base="two.yaml")
    code, _, messages = finish(job)
    assert code == 2
    assert "has no dashboard, which trials of several workers need" in messages.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_trial_larger_than_every_node_is_refused(given, ray_address, tmp_path):
    asked = ("--cpus-per-trial", 3, "--ray-address", ray_address)
    code, _, messages = finish(start(given, tmp_path / "out", *asked))
    assert code == 2
    assert (
        "a trial needs 1 x 3 CPUs and the cluster has room for 0 x 3, 2 on its largest node"
        in messages
    )
    assert not (tmp_path / "out").exists()
