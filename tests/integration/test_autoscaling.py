"""Clusters that may grow, and clusters whose CPUs another job holds."""

import json
import re
import time

import pytest
from support.nightly_runs import ROOT, draw_images
from support.ray_heads import ray_head
from support.training_folders import write_person_folders

pytestmark = pytest.mark.cluster

GROUPS = {"cpu": ({"CPU": 2}, 2), "gpu": ({"CPU": 2, "GPU": 1}, 3)}

PLAN = """
import json, time
from reidray.cluster_resources import cluster_capacity, cluster_gpus, wait_for_resources
from reidray.config import BatchConfig, TrainReidConfig
from reidray.errors import UserError
from reidray.inference.ray_engine import plan_pool
from reidray.ray_runtime import ray_session
from reidray.training.execution.worker_planning import plan_counts, plan_workers

def refusal(function, *arguments):
    began = time.monotonic()
    try:
        function(*arguments)
    except UserError as error:
        return str(error), time.monotonic() - began

with ray_session(wait_for_resources="40s"):
    told = {"before": cluster_capacity().describe()}
    told["pool"] = str(plan_pool(None, "auto"))
    told["cpu_pool"] = str(plan_pool(None, "no"))
    config = TrainReidConfig(data="DATA", num_workers="auto", batch=BatchConfig(people=8))
    told["counts"] = plan_counts(config)
    resources = plan_workers(2, "auto")
    told["reserved"] = resources.reserved
    told["refused"] = refusal(plan_workers, 4, "auto")
    told["pool_refused"] = refusal(plan_pool, 4, "yes")
    wait_for_resources([resources.reserved] * 2)
    told["after"] = cluster_capacity().describe()
print(json.dumps(told))
"""

HOLD = """
import ray, sys, time
ray.init()

class Occupant:
    pass

held = ray.remote(num_cpus=1)(Occupant).remote()
ray.get(held.__ray_ready__.remote())
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.timeout(120)
def test_jobs_plan_for_what_an_autoscaler_may_start_and_wait_for_it():
    with ray_head(cpus=1, groups=GROUPS) as head:
        job = head.start("-c", PLAN)
        said, messages = job.communicate(timeout=90)
    assert job.returncode == 0, messages
    told = json.loads(said)
    grown = "may grow to 11 CPUs and 3 GPUs"
    assert told["before"] == f"has 1 CPU and 0 GPUs, and {grown}"
    assert told["pool"] == "EmbeddingPool(num_actors=3, use_gpu=True)"
    assert told["cpu_pool"] == "EmbeddingPool(num_actors=11, use_gpu=False)"
    assert told["counts"] == [2]  # of the 3 GPUs, as 8 people divide evenly among 2
    assert told["reserved"] == {"CPU": 2, "GPU": 1}
    for refusal, seconds in (told["refused"], told["pool_refused"]):
        assert grown in refusal
        assert seconds < 5
    assert told["after"] == f"has 5 CPUs and 2 GPUs, and {grown}"


@pytest.mark.timeout(180)
def test_jobs_say_who_holds_the_cluster_and_end_once_their_patience_is_over(model, tmp_path):
    images = draw_images(tmp_path / "images", people=4, variants=2)
    people = write_person_folders(tmp_path / "people", people=6)
    jobs = {
        "train_reid.py": ["--data", people, "--output", tmp_path / "run", "--recipe", "demo"],
        "score_nightly.py": [
            *("--model", model, "--queries", images / "queries", "--num-workers", "1"),
            *("--gallery", images / "gallery", "--output", tmp_path / "out"),
        ],
    }
    with ray_head(cpus=1) as head:
        occupant = head.start("-c", HOLD, stdin=-1)
        assert occupant.stdout.readline() == "held\n"
        began = time.monotonic()
        running = {
            name: head.start(ROOT / "jobs" / name, *words, "--wait-for-resources", "13s")
            for name, words in jobs.items()
        }
        for name, job in running.items():
            said, messages = job.communicate(timeout=100)
            assert (job.returncode, said) == (2, ""), (name, messages)
            holder = r"held by job \w+ `.*-c.*` \(1 x Occupant with 1 CPU\)"
            state = f"the cluster has 1 CPU and 0 GPUs, with none free, {holder}"
            assert re.search(f"waiting for .* CPU.*, 1\\d s so far: {state}", messages), messages
            last = messages.splitlines()[-1]
            assert re.search(f"no room for .* CPU.* within 13 s: {state}; .*--num-workers", last)
            assert "--wait-for-resources" in last
        assert time.monotonic() - began < 60
        occupant.communicate("", timeout=30)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()
