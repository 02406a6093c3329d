"""A run directory that cannot be written is told in one line, as other failures of machines are."""

import time

import pytest
from support.full_disk import full_disk
from support.training_folders import reid_experiment, write_person_folders

from reidray.errors import MachineError
from reidray.training.execution.single_process import SingleProcess
from reidray.training.orchestration import decode_images, train_experiment
from reidray.training.runs.run_directory import RunDirectory
from reidray.training.runs.run_logger import RunLogger


def test_a_run_that_cannot_be_started_is_one_line_and_leaves_nothing(tmp_path):
    sets = [str(write_person_folders(tmp_path / name, 7)) for name in ("north", "south")]
    experiment = reid_experiment(tmp_path / "data", "--data", *sets)
    engine = SingleProcess()
    decoded = decode_images(experiment, engine)
    told = r"run directory .*/run cannot be written \(.*File too large.*\): make room"
    with full_disk(), pytest.raises(MachineError, match=told) as caught:
        train_experiment(decoded, engine, started=time.time())
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["north", "south"]


def test_metrics_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "run").mkdir()
    logger = RunLogger(RunDirectory.from_uri(str(tmp_path / "run")), epochs=1)
    records = [{"epoch": 1, "loss": 0.5, "protocol": "p" * 1000}]
    told = r"the metrics cannot be written \(.*File too large.*\): .* go on with `resume`"
    with full_disk(), pytest.raises(MachineError, match=told) as caught:
        logger.write_all(records)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
