import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.numpy import load_file
from support.forked_scripts import script_command
from support.paths import ROOT
from support.processes import named_descendants
from support.scrapes import scraping

import reidray
from reidray.cli.arguments import parse_arguments
from reidray.config import TrainReidConfig
from reidray.config.loading import load_config
from reidray.demo import generate_demo_set
from reidray.errors import UserError
from reidray.models import load_model
from reidray.monitoring.metric_definitions import DEFINITIONS
from reidray.storage.location import Location
from reidray.training.execution.worker_planning import plan_workers
from reidray.training.orchestration import build_experiment

pytestmark = pytest.mark.cluster
EPOCHS = 6
SHORT = (
    f"--recipe demo --epochs {EPOCHS} --batch.people 6 --network.height 32 --network.width 16 "
    "--network.feature-size 32 --validation.every 1"
).split()
TWO_WORKERS = ("--num-workers", 2)


def start(*arguments, is_fresh=False):
    words = [ROOT / "jobs" / "train_reid.py", *arguments]
    command = [sys.executable, *map(str, words)] if is_fresh else script_command(*words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(job):
    output, messages = job.communicate(timeout=200)
    return job.returncode, output, messages


def records(run):
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_for_epoch(job, run, epoch):
    """Until a training has told of an epoch, and has more to do."""
    while not any(record["epoch"] == epoch for record in records(run)):
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    assert len(records(run)) < EPOCHS


def flip_a_byte(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def training_processes():
    below = named_descendants(os.getpid())
    return [process for process, name in below.items() if "RayTrainWorker" in name]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "data"
    generate_demo_set(folder, people=40, images=480)
    return folder


@pytest.fixture(scope="module")
def scraped(ray_address, crops, tmp_path_factory):
    """A training that nothing happens to: its run directory, what it printed last, its metrics."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    asked = ("--data", crops, "--output", run, *SHORT, *TWO_WORKERS)
    with scraping(run) as exported:
        code, output, messages = finish(start(*asked, "--ray-address", ray_address, is_fresh=True))
    assert code == 0, messages
    return run, json.loads(output.splitlines()[-1]), exported


@pytest.fixture(scope="module")
def undisturbed(scraped):
    """The run directory of this training, and what it printed last."""
    return scraped[:2]


def test_a_training_exports_its_progress_until_it_has_ended(scraped):
    run, _, exported = scraped
    last = records(run)[-1]
    defined = {each.exported_name for each in DEFINITIONS if "training" in each.name}
    assert {key[0] for key in exported} == defined
    assert exported["ray_reidray_training_epoch",] == EPOCHS
    assert exported["ray_reidray_training_loss",] == pytest.approx(last["loss"])
    validation = {key[1]: value for key, value in exported.items() if "validation" in key[0]}
    assert validation == {
        f"metric={name}": pytest.approx(last[name])
        for name in ("mean_ap", "rank1", "attribute_accuracy")
    }
    assert exported["ray_reidray_training_images_total",] % EPOCHS == 0
    assert exported["ray_reidray_training_images_total",] > 100 * EPOCHS
    assert exported["ray_reidray_training_images_per_second",] > 0
    assert 0 < exported["ray_reidray_training_input_wait_ratio",] < 1


def test_a_run_directory_holds_all_that_a_run_leaves(undisturbed):
    run, result = undisturbed
    assert Path(result["model"]) == run / "model"
    assert [record["epoch"] for record in records(run)] == list(range(1, EPOCHS + 1))
    assert records(run)[-1]["loss"] < records(run)[0]["loss"]
    best = max(record["attribute_accuracy"] for record in records(run))
    assert result["attribute_accuracy"] == pytest.approx(best, abs=1e-4)
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == EPOCHS
    assert list((run / "tensorboard").glob("events*"))
    page = (run / "report.html").read_text()
    assert page.count('<img src="data:image/jpeg') > 40
    assert "Images that look poor" in page
    assert "</html>" in page
    groups = records(run)[result["best_epoch"] - 1]["groups"]
    assert {group["group"].split()[0] for group in groups} == {"gender", "age"}
    assert f"| {groups[0]['group']} | {groups[0]['queries']} | {groups[0]['people']} |" in (
        (run / "model" / "README.md").read_text()
    )
    assert {path.name for path in (run / "model").iterdir()} == {
        "README.md",
        "model.json",
        "model.safetensors",
    }


def test_no_kill_and_no_damaged_checkpoint_changes_what_is_learned(
    undisturbed, ray_address, tmp_path
):
    whole, _ = undisturbed
    run = tmp_path / "run"
    on_cluster = ("--ray-address", ray_address)
    job = start("--config", whole / "config.yaml", "--output", run, *on_cluster)
    wait_for_epoch(job, run, 3)
    job.kill()
    job.communicate()
    psutil.wait_procs(training_processes(), timeout=60)
    listed = json.loads((run / "checkpoints" / "checkpoint_manager_snapshot.json").read_text())
    newest = listed["latest_checkpoint_result"]["checkpoint_dir_name"]
    flip_a_byte(run / "checkpoints" / newest / "network.safetensors")

    job = start("--resume", run, *on_cluster)
    wait_for_epoch(job, run, 4)
    killed = training_processes()
    killed[0].send_signal(signal.SIGKILL)
    code, _, messages = finish(job)
    assert code == 0, messages
    assert messages.count("going on after epoch") == 2
    assert messages.count("going on from the checkpoint before it") == 1
    assert [record["epoch"] for record in records(run)] == list(range(1, EPOCHS + 1))
    learned, expected = (load_file(at / "model" / "model.safetensors") for at in (run, whole))
    assert learned.keys() == expected.keys()
    assert all((learned[name] == expected[name]).all() for name in expected)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_training_in_python_on_streamed_crops_gives_the_weights_of_resident_ones(
    undisturbed, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "reidray")
    whole, _ = undisturbed
    run = tmp_path / "run"
    overrides = {"output": str(run), "ingest": "stream"}
    config = load_config(TrainReidConfig, overrides=overrides, files=[whole / "config.yaml"]).config
    result = reidray.train(config)
    assert (result.directory, result.model) == (str(run), str(run / "model"))
    assert 0 < result.metrics["mean_ap"] <= 1
    assert "ingest stream: 384 crops of 32x16" in caplog.text
    learned, expected = (load_file(at / "model" / "model.safetensors") for at in (run, whole))
    assert all((learned[name] == expected[name]).all() for name in expected)
    assert all(0 <= record["input_wait"] < 1 for record in records(run))


@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize("way", ["resident", "stream"])
def test_a_training_person_without_an_image_left_stops_before_training(crops, tmp_path, way):
    damaged = shutil.copytree(crops, tmp_path / "data")
    asked = ["--data", str(damaged), *SHORT, "--ingest", way, "--max-bad", "0.2"]
    asked += ["--output", str(tmp_path / "run")]
    config = parse_arguments(TrainReidConfig, asked).config
    experiment = build_experiment(config)
    labels = experiment.labels["train"]
    person = labels.person_ids[0]
    for row in labels.indices[labels.person_ids == person].tolist():
        path = damaged / experiment.manifest.table["path"][row].as_py()
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=f"no image of training person {person} decodes: mend"):
        reidray.train(config)
    assert not (tmp_path / "run").exists()


def test_a_mistake_of_the_user_s_is_not_tried_again(crops, ray_address, tmp_path):
    wild = ("--optimizer.name", "sgd", "--optimizer.learning-rate", 100, "--loss.attributes", 1e6)
    asked = ("--data", crops, "--output", tmp_path / "run", *SHORT, *TWO_WORKERS, *wild)
    code, output, messages = finish(start(*asked, "--ray-address", ray_address))
    assert (code, output) == (2, ""), messages
    assert messages.splitlines()[-1].startswith("error: the loss is ")
    assert messages.count("lower --optimizer.learning-rate") == 1
    assert not (tmp_path / "run").exists()


def test_a_limit_that_starting_uses_up_leaves_no_model(crops, ray_address, tmp_path):
    asked = ("--data", crops, "--output", tmp_path / "run", *SHORT, *TWO_WORKERS)
    limited = (*asked, "--max-minutes", 0.15, "--ray-address", ray_address)
    code, output, messages = finish(start(*limited, is_fresh=True))
    assert (code, output) == (2, ""), messages
    last = messages.splitlines()[-1]
    assert re.search(
        r"error: starting took \d+ s, .* nothing was trained: give --max-minutes", last
    )
    assert not (tmp_path / "run").exists()


def test_an_invalid_rating_is_refused_in_one_line_with_status_2(tmp_path):
    code, output, messages = finish(
        start("--data", "no/such/folder", "--output", tmp_path / "run", *SHORT)
    )
    assert (code, output) == (2, "")
    assert messages.startswith("error: ")
    assert "no/such/folder: no such folder" in messages
    assert messages.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--batch.people", "300"], "needs 300 people"),
        (["--network.backbone", "resnet_tinny"], "did you mean 'resnet_tiny'"),
        (["--output", "pyproject.toml"], "pyproject.toml"),
    ],
)
def test_invalid_settings_are_refused_before_ray_starts(crops, arguments, complaint):
    asked = parse_arguments(TrainReidConfig, ["--data", str(crops), *SHORT, *arguments])
    with pytest.raises(UserError, match=complaint):
        build_experiment(asked.config)


@pytest.mark.usefixtures("ray_address")
def test_workers_that_the_cluster_cannot_place_are_refused_with_what_it_has():
    with pytest.raises(UserError, match="3 workers need a CPU each and the cluster has 2"):
        plan_workers(3, "auto")
    with pytest.raises(
        UserError, match="1 worker needs a GPU and the cluster has 2 CPUs and 0 GPUs"
    ):
        plan_workers(1, "yes")
    assert plan_workers(2, "no").cpus == 1
    assert plan_workers(2, "no").reserved == {"CPU": 1}
    assert plan_workers(2, "no", streams=True).reserved == {"CPU": 0.5}


def records_of(uri):
    location = Location(uri)
    if not location.join("metrics.jsonl").exists():
        return []
    return [json.loads(line) for line in location.read_bytes("metrics.jsonl").splitlines()]


@pytest.mark.slow
def test_a_run_in_a_bucket_that_fails_now_and_then_is_gone_on_with_and_learns_the_same(
    undisturbed, bucket, unreliable
):
    whole, _ = undisturbed
    unreliable.busy = unreliable.cut = 0.03
    uri = f"{bucket}/run"
    job = start("--config", whole / "config.yaml", "--output", uri)
    while len(records_of(uri)) < 2:
        assert job.poll() is None, job.communicate()
        time.sleep(0.2)
    job.kill()
    job.communicate()
    assert len(records_of(uri)) < EPOCHS

    code, output, messages = finish(start("--resume", uri))
    assert code == 0, messages
    assert messages.count("going on after epoch") == 1
    told = json.loads(output.splitlines()[-1])
    assert (told["run"], told["model"]) == (uri, f"{uri}/model")
    assert [record["epoch"] for record in records_of(uri)] == list(range(1, EPOCHS + 1))
    files = Location(uri).list_files()
    assert {"config.yaml", "report.html", "model/README.md", "model/model.json"} <= {*files}
    assert any(file.startswith("tensorboard/events") for file in files)
    learned, expected = load_model(f"{uri}/model"), load_model(whole / "model")
    expected_weights = expected.network.state_dict()
    for name, values in learned.network.state_dict().items():
        assert values.equal(expected_weights[name])
    assert unreliable.met["busy"] > 0
    code, _, messages = finish(start("--config", whole / "config.yaml", "--output", uri))
    assert code == 2
    assert "go on with a run by --resume s3://" in messages
