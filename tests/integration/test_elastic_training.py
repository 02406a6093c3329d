"""Trainings whose number of workers follows the nodes of the cluster."""

import json
import time
from dataclasses import replace

import pytest
from support.paths import ROOT
from support.ray_heads import end_node, ray_head
from support.training_folders import write_person_folders

from reidray.config import BatchConfig, TrainReidConfig
from reidray.errors import UserError
from reidray.training.execution.worker_planning import plan_counts

CONFIG = TrainReidConfig(data="DATA", batch=BatchConfig(people=16))


def test_an_elastic_training_has_numbers_of_workers_that_divide_a_batch_evenly():
    assert plan_counts(replace(CONFIG, num_workers=8, min_workers=2)) == (2, 4, 8)
    assert plan_counts(replace(CONFIG, num_workers=7, min_workers=1)) == (1, 2, 4)
    assert plan_counts(replace(CONFIG, num_workers=3)) == (3,)


def test_a_range_that_divides_no_batch_is_refused_with_the_numbers_that_do():
    line = (
        "`min_workers=5`: a batch of 16 people x 4 crops divides evenly among 1, 2, 4, 8 workers, "
        "and none of these numbers lies in 5..7: change the range, or `batch.people`"
    )
    with pytest.raises(UserError) as caught:
        plan_counts(replace(CONFIG, num_workers=7, min_workers=5))
    assert str(caught.value) == line


def count_epochs(records):
    return len(records.read_text().splitlines()) if records.exists() else 0


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(280)
def test_a_training_that_loses_a_node_goes_on_with_fewer_workers(tmp_path):
    people = write_person_folders(tmp_path / "people", people=40)
    records = tmp_path / "run" / "metrics.jsonl"
    with ray_head(cpus=1) as head:
        raylet = head.add_node(cpus=1)
        job = head.start(
            *(ROOT / "jobs" / "train_reid.py", "--data", people, "--output", tmp_path / "run"),
            *("--recipe", "demo", "--epochs", "12", "--no-images"),
            *("--min-workers", "1", "--num-workers", "2"),
        )
        while job.poll() is None and count_epochs(records) < 3:  # the first is safe by then
            time.sleep(0.1)
        end_node(raylet)
        said, messages = job.communicate(timeout=200)
    assert job.returncode == 0, messages
    assert "1 or 2 workers x 1 CPU" in messages
    assert "going on after epoch" in messages
    assert json.loads(said.splitlines()[-1])["epochs"] == 12
    epochs = [json.loads(line)["epoch"] for line in records.read_text().splitlines()]
    assert epochs == list(range(1, 13))
