"""Real faults in nightly runs: the files are those of an undisturbed run, or of the run before."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from ray.cluster_utils import Cluster
from ray.exceptions import RayActorError
from support.nightly_runs import draw_images, published, run_with_ray
from support.processes import once, worker_processes

pytestmark = pytest.mark.cluster

SCRIPT = """
import json, sys
import ray
import reidray.scoring.stages.embed_missing as embed_missing
from reidray.config.scoring import ScoreConfig
from reidray.scoring.nightly_run import run_nightly

settings, ray_settings = json.loads(sys.argv[1]), json.loads(sys.argv[2])
embed_missing.PART_ROWS, embed_missing.COMMIT_SECONDS = 64, 0.0
ray.init(**ray_settings, include_dashboard=False, log_to_driver=False)
print(run_nightly(ScoreConfig(**settings))["embedded"])
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw_images(tmp_path_factory.mktemp("nightly"), people=40, variants=30)


@pytest.fixture(scope="module")
def quiet(ray_address, model, images, tmp_path_factory):  # noqa: ARG001 - it needs Ray
    """Return the files of an undisturbed run."""
    out = tmp_path_factory.mktemp("quiet") / "out"
    run_with_ray(model, images, out)
    return published(out)


def embedders():
    """Return the processes that embed."""
    return worker_processes("EmbeddingActor") + worker_processes("DecodingActor")


def wait_for_no_embedders():
    """Wait until the actors of an earlier run end, once Ray has noticed that nobody needs them."""
    while embedders():
        time.sleep(0.1)


def test_a_scoring_actor_that_is_killed_leaves_no_trace(quiet, model, images, tmp_path):
    wait_for_no_embedders()

    def kill_one(processes):
        time.sleep(random.uniform(0, 0.5))
        processes[0].send_signal(signal.SIGKILL)

    with once(embedders, kill_one):
        summary = run_with_ray(model, images, tmp_path / "out", num_workers=2)
    assert summary["embedded"] == 1240
    assert published(tmp_path / "out") == quiet
    wait_for_no_embedders()  # which hold the CPUs of the tests after this one


@pytest.mark.slow
def test_an_actor_that_dies_again_and_again_ends_the_nightly_run(quiet, model, images, tmp_path):
    run_with_ray(model, images, tmp_path / "out", top_k=3)
    before, ended = published(tmp_path / "out"), threading.Event()
    assert before != quiet

    def kill_all():
        while not ended.wait(0.05):
            for process in embedders():
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(RayActorError):
            run_with_ray(model, images, tmp_path / "out")
    finally:
        ended.set()
        killer.join()
    assert published(tmp_path / "out") == before


def start_run(model, images, output, ray_settings, **changes):
    settings = {"model": str(model), "queries": str(images / "queries"), "num_workers": 1}
    settings |= {"gallery": str(images / "gallery"), "output": str(output), **changes}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(settings), json.dumps(ray_settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray-data"])
def test_a_driver_that_is_killed_loses_nothing_that_was_stored(
    engine, quiet, model, images, tmp_path
):
    out, store = tmp_path / "out", tmp_path / "store"
    yesterday = tmp_path / "yesterday"
    run_with_ray(model, images, yesterday, top_k=3)
    shutil.copytree(yesterday, out)
    first = start_run(model, images, out, {"num_cpus": 2}, store=str(store), engine=engine)
    while first.poll() is None and len(list(store.rglob("parts/0*.parquet"))) < 3:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert published(out) == published(yesterday)
    kept = 40 + (len(list(store.rglob("parts/*.parquet"))) - 1) * 64  # 40 queries, or more
    summary = run_with_ray(model, images, out, store=str(store))
    assert 0 < summary["embedded"] <= 1240 - kept
    assert published(out) == quiet
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store", "yesterday"]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="this machine lets nobody mount a small disk",
)
def test_a_full_disk_ends_a_nightly_run_with_what_failed_and_leaves_the_one_before(
    quiet, model, images, tmp_path, ray_address
):
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m none {disk} && cp -r {tmp_path}/yesterday {disk}/out && "
        f"head -c 850k /dev/zero > {disk}/full; "
        f"{sys.executable} jobs/score_nightly.py --model {model} --queries {images}/queries "
        f"--gallery {images}/gallery --output {disk}/out --num-workers 1 "
        f"--ray-address {ray_address}; echo exit $?; cp -r {disk}/out {tmp_path}/after; "
        f"ls -A {disk}"
    )
    run_with_ray(model, images, tmp_path / "yesterday", top_k=3)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "exit 1" in done.stdout, done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert published(tmp_path / "after") == published(tmp_path / "yesterday") != quiet
    assert done.stdout.split("exit 1\n")[1].split() == ["full", "out"]


@pytest.mark.slow
def test_an_object_store_that_is_too_small_changes_nothing(quiet, model, images, tmp_path):
    small = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
    done = start_run(model, images, tmp_path / "out", small)
    _, errors = done.communicate(timeout=200)
    assert done.returncode == 0, errors
    assert published(tmp_path / "out") == quiet


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "auto"])
def test_a_worker_and_a_machine_that_go_away_change_nothing(engine, quiet, model, images, tmp_path):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        address = {"address": cluster.address}
        run = start_run(model, images, tmp_path / "out", address, num_workers=3, engine=engine)
        while len(embedders()) < 3 and run.poll() is None:
            time.sleep(0.02)
        assert run.poll() is None, "it ended before anything went wrong"
        embedders()[0].send_signal(signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)
        _, errors = run.communicate(timeout=200)
        assert run.returncode == 0, errors
    finally:
        cluster.shutdown()
    assert published(tmp_path / "out") == quiet
    engines = {"local": "local", "auto": "ray-data"}
    summary = json.loads((tmp_path / "out" / "scoring.json").read_text())
    assert summary["engine"] == engines[engine]
