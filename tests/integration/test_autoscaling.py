"""Clusters that may grow, and clusters whose CPUs another job holds."""

import json
import re
import time

import pytest
from support.nightly_runs import ROOT, draw_images
from support.rating_files import write_two_tastes
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

GROW = """
from reidray.cluster_resources import cluster_capacity, wait_for_resources
from reidray.ray_runtime import ray_session

with ray_session(wait_for_resources="2m"):
    print(cluster_capacity().describe())
    wait_for_resources([{"GPU": 1}])
    print(cluster_capacity().describe())
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


TASKS = """
import sys, time
from reidray.cluster_resources import waiting
from reidray.inference.distributed.task_runner import RayTasks
from reidray.ray_runtime import ray_session

def work(seconds):
    time.sleep(seconds)
    return seconds

waiting.FIRST_LINE_SECONDS = 3.0
with ray_session():
    print("begun", flush=True)
    sys.stdin.readline()
    print(list(RayTasks(1).run(work, [7, 0, 0])), flush=True)
"""

HOLD_BY_TASK = """
import pathlib, ray, sys, time
ray.init()

@ray.remote(num_cpus=1)
def occupy(started):
    pathlib.Path(started).touch()
    time.sleep(1000)

held = occupy.remote(sys.argv[1])
sys.stdin.read()
"""

BESIDE = "import ray, sys; ray.init(); print('joined', flush=True); sys.stdin.read()"


@pytest.mark.timeout(240)
def test_jobs_plan_for_what_an_autoscaler_may_start_and_wait_for_it():
    with ray_head(cpus=1, groups=GROUPS) as head:
        job = head.start("-c", PLAN)
        said, messages = job.communicate(timeout=200)
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


@pytest.mark.timeout(240)
def test_version_2_of_the_autoscaler_has_the_limits_of_its_configuration_and_starts_nodes():
    with ray_head(cpus=1, groups=GROUPS, autoscaler=2) as head:
        told, messages = head.start("-c", GROW).communicate(timeout=200)
    grown = "and may grow to 11 CPUs and 3 GPUs"
    after = f"has 3 CPUs and 1 GPU, {grown}"
    assert told.splitlines() == [f"has 1 CPU and 0 GPUs, {grown}", after], messages


@pytest.mark.timeout(300)
def test_jobs_say_who_holds_the_cluster_and_end_once_their_patience_is_over(model, tmp_path):
    images = draw_images(tmp_path / "images", people=4, variants=2)
    people = write_person_folders(tmp_path / "people", people=6)
    films = write_two_tastes(tmp_path)
    space = tmp_path / "space.yaml"
    space.write_text("optimizer.learning_rate: {choice: [0.001, 0.01]}")
    jobs = {
        "train_reid.py": ["--data", people, "--output", tmp_path / "run", "--recipe", "demo"],
        "score_nightly.py": [
            *("--model", model, "--queries", images / "queries", "--num-workers", "1"),
            *("--gallery", images / "gallery", "--output", tmp_path / "out"),
        ],
        "tune.py": [
            *("--data", people, "--output", tmp_path / "sweep", "--recipe", "demo"),
            *("--space", space),
        ],
        "recommend.py": ["--ratings", films["ratings"], "--movies", films["movies"]],
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
            said, messages = job.communicate(timeout=200)
            assert (job.returncode, said) == (2, ""), (name, messages)
            holder = r"held by job \w+ `.*-c.*` \(1 x Occupant with 1 CPU\)"
            state = f"the cluster has 1 CPU and 0 GPUs, with none free, {holder}"
            assert re.search(f"waiting for .* CPU.*, 1\\d s so far: {state}", messages), messages
            last = messages.splitlines()[-1]
            assert re.search(f"no room for .* CPU.* within 13 s: {state}; .*--wait-for-res", last)
        assert time.monotonic() - began < 200
        occupant.communicate("", timeout=30)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "sweep" / "sweep.yaml").exists()


@pytest.mark.timeout(240)
def test_a_job_whose_tasks_wait_in_its_midst_says_whose_tasks_hold_the_cluster(tmp_path):
    with ray_head(cpus=1) as head:
        job, bystander = head.start("-c", TASKS, stdin=-1), head.start("-c", BESIDE, stdin=-1)
        assert job.stdout.readline() == "begun\n"
        assert bystander.stdout.readline() == "joined\n"
        occupant = head.start("-c", HOLD_BY_TASK, tmp_path / "started", stdin=-1)
        while not (tmp_path / "started").exists():
            time.sleep(0.1)
        job.stdin.write("go\n")
        job.stdin.flush()
        line = job.stderr.readline()
        occupant.communicate("", timeout=30)
        said, later = job.communicate(timeout=60)
        bystander.communicate("", timeout=30)
    holder = r"held by tasks of job \w+ `[^`]*pathlib[^`]*` \(1 CPU\)$"
    state = f"the cluster has 1 CPU and 0 GPUs, with none free, {holder}"
    assert re.match(f"waiting for 1 CPU for 3 tasks, \\d s so far: {state}", line), line
    # While its own first task holds the CPU for long, the others wait for nobody else.
    assert (job.returncode, said, later) == (0, "[7, 0, 0]\n", "")
