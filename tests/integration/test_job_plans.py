"""Plan jobs before they run: `--plan` writes nothing, and says how fast the job will be."""

import json
import subprocess
import time
from dataclasses import replace

import pytest
import yaml
from support.forked_scripts import script_command
from support.nightly_runs import Unreachable, draw, draw_images, run_job, run_without_ray
from support.paths import JOBS, ROOT

from reidray.config.scoring import ScoreConfig
from reidray.demo import generate_demo_set
from reidray.scoring.planning.night_plan import plan_nightly
from reidray.storage.location import FRESH_NS, Location

FACTOR = 2.5
TRIES = 4
"""Pairs of a plan and a run, one of which has to agree: other jobs of this machine disturb some."""

SHORT = ("--recipe", "demo", "--batch.people", 6, "--network.height", 32, "--network.width", 16)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = draw_images(tmp_path_factory.mktemp("planned"), people=40, variants=11)
    time.sleep(1.1 * FRESH_NS / 1e9)  # a store does not trust the stamps of new files
    return root


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    generate_demo_set(folder, people=12, seed=0)
    return folder


def everything(*folders):
    """Return the paths below some folders, and when each file was written."""
    return {
        str(path): path.lstat().st_mtime_ns if path.is_file() else None
        for folder in folders
        for path in folder.rglob("*")
    }


def plan_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_plan_of_a_night_writes_nothing_and_names_its_pace(model, images, tmp_path):
    flags = ("--model", model, "--queries", images / "queries", "--gallery", images / "gallery")
    flags += ("--output", tmp_path / "new" / "out", "--use-gpu", "no")
    before, paces = everything(tmp_path, images, model), []
    for number in range(TRIES):
        done = run_job(*flags, "--store", tmp_path / "new" / "store", "--plan")
        plan = plan_of(done)
        assert everything(tmp_path, images, model) == before
        assert (plan["queries"], plan["gallery"], plan["missing"]) == (40, 440, 480)
        assert (plan["engine"], plan["workers"], plan["nodes"]) == ("local", 1, 1)
        assert plan["binds"] in ("reading files", "decoding", "model")
        assert plan["sampled"] == 480
        assert "what binds" in done.stderr
        pace = plan["images_per_second"]
        assert pace["low"] <= pace["per_second"] <= pace["high"]
        elsewhere = tmp_path.with_name(f"{tmp_path.name}-{number}")
        scored = plan_of(run_job(*flags[:-4], "--output", elsewhere, "--use-gpu", "no"))
        paces.append((pace["per_second"], scored["images_per_second"]))
        if max(paces[-1]) <= FACTOR * min(paces[-1]):
            return
    raise AssertionError(f"planned and reached images per second: {paces}")


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_address")
def test_a_plan_counts_what_the_store_lacks_and_times_it_in_the_cluster(model, images, tmp_path):
    store = tmp_path / "store"
    run_without_ray(model, images, tmp_path / "out", store=str(store))
    queries = tmp_path / "queries"
    for person in range(100, 170):
        draw(queries / f"{person}.png", person, 3)
    before = everything(tmp_path)
    for engine in ("local", "ray-data"):
        config = ScoreConfig(
            model=str(model),
            queries=str(queries),
            gallery=str(images / "gallery"),
            output=str(tmp_path / "out"),
            store=str(store),
            num_workers=2,
            engine=engine,
        )
        plan = plan_nightly(config)
        assert (plan["missing"], plan["sampled"], plan["workers"]) == (70, 70, 2)
        assert (plan["engine"], plan["embeddings_read"]["from"]) == (engine, "store")
        assert everything(tmp_path) == before
    known = ScoreConfig(
        model=str(model),
        queries=str(images / "queries"),
        gallery=str(images / "gallery"),
        output=str(tmp_path / "out"),
        store=str(store),
    )
    plan = plan_nightly(known)
    assert (plan["missing"], plan["binds"]) == (0, "ranking")
    assert "queries_reranked" not in plan
    reranked = plan_nightly(replace(known, rerank=60, engine="ray-data"))
    assert reranked["queries_reranked"]["per_second"] > 0
    assert reranked["ranking"]["minutes"] > plan["ranking"]["minutes"]


def test_a_plan_of_a_night_in_a_bucket_leaves_it_as_it_is(model, images, bucket):
    files = sorted((images / "queries").iterdir())[:9]
    for role in ("queries", "gallery"):
        for file in files:
            Location(bucket).write_bytes(f"{role}/{file.name}", file.read_bytes())
    before = sorted(Location(bucket).list_files())
    config = ScoreConfig(
        model=str(model),
        queries=f"{bucket}/queries",
        gallery=f"{bucket}/gallery",
        output=f"{bucket}/out",
        store=f"{bucket}/store",
        use_gpu="no",
    )
    plan = plan_nightly(config, Unreachable(), starts_ray=True)
    assert (plan["missing"], plan["sampled"], plan["bad_in_sample"]) == (18, 18, 0)
    assert plan["megabytes_per_second"] > 0
    assert sorted(Location(bucket).list_files()) == before


def test_a_mistake_ends_a_plan_with_status_2_and_one_line(model, images, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run_job(
        *("--model", model, "--queries", tmp_path / "empty", "--gallery", images / "gallery"),
        *("--output", tmp_path / "out", "--plan"),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "queries" in done.stderr


def test_a_plan_of_images_of_which_none_decodes_names_one(model, tmp_path):
    for folder in ("queries", "gallery"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(b"no image")
    done = run_job(
        *("--model", model, "--queries", tmp_path / "queries"),
        *("--gallery", tmp_path / "gallery", "--output", tmp_path / "out", "--plan"),
        *("--use-gpu", "no"),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "queries/a.jpg" in done.stderr.splitlines()[-1]


def train(*words, script=ROOT / "tests" / "support" / "train_without_ray.py", address="none"):
    command = script_command(script, *words, "--ray-address", address)
    return subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=ROOT)


def check_plan_of_training(plan, epochs):
    assert (plan["plan"], plan["epochs"], plan["ingest"]) == ("train", epochs, "resident")
    assert plan["steps_per_epoch"] > 0
    assert plan["one_process"]["training steps"]["per_second"] > 0
    assert plan["binds"] in plan["stages"]
    assert plan["total"]["minutes"] >= plan["epoch"]["minutes"]


def test_a_plan_of_a_training_writes_nothing_and_needs_no_ray(crops, tmp_path):
    flags = ("--data", crops, *SHORT, "--use-gpu", "no", "--output", tmp_path / "run")
    before = everything(tmp_path, crops)
    done = train(*flags, "--epochs", 7, "--plan")
    check_plan_of_training(plan_of(done), 7)
    assert everything(tmp_path, crops) == before
    (tmp_path / "run").mkdir()
    config = train(*flags, "--print-config").stdout
    assert "plan" not in yaml.safe_load(config)
    (tmp_path / "run" / "config.yaml").write_text(config)
    refused = train("--resume", tmp_path / "run", "--plan")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--config RUN/config.yaml" in refused.stderr


@pytest.mark.cluster
def test_a_plan_of_a_training_times_it_in_the_cluster(crops, ray_address, tmp_path):
    flags = ("--data", crops, *SHORT, "--use-gpu", "no", "--output", tmp_path / "run")
    done = train(
        *flags, "--num-workers", 2, "--plan", script=JOBS / "train_reid.py", address=ray_address
    )
    plan = plan_of(done)
    check_plan_of_training(plan, 24)
    assert plan["workers"] == 2
    assert list(tmp_path.iterdir()) == []
