"""One job writes a run directory at a time, on a disk and in a bucket."""

import subprocess
import sys

import pytest
from support.paths import ROOT

from reidray.config import TrainReidConfig
from reidray.config.tuning import TuneConfig
from reidray.errors import UserError
from reidray.quickstart_folder import lock_folder
from reidray.storage.location import Location
from reidray.training.runs.run_directory import RunDirectory, lock_run
from reidray.tuning.sweep_inputs import claim_sweep_folder

HOLD = """
import sys, time
from reidray.training.runs.run_directory import RunDirectory
with RunDirectory.from_uri(sys.argv[1]).locked():
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Start processes that hold the claim to a place until they are ended."""
    started = []

    def start(uri):
        command = [sys.executable, "-c", HOLD, uri]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"claimed\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path, bucket):
    return str(tmp_path / "run") if request.param == "disk" else f"{bucket}/run"


@pytest.mark.parametrize("resumed", [False, True])
def test_a_second_training_of_one_run_is_refused_in_one_line(place, hold, resumed):
    if resumed:
        Location(place).write_bytes("config.yaml", b"data: images\n")
    holder = hold(place)
    config = TrainReidConfig(data="images", output=place)
    with (
        pytest.raises(UserError, match="another run is writing it") as caught,
        lock_run(config, place if resumed else None),
    ):
        pass
    assert "\n" not in str(caught.value)
    holder.communicate()
    with lock_run(config, place if resumed else None) as run:
        assert run.location == Location(place)
    assert Location(place).exists() is resumed
    assert not resumed or Location(place).list_files() == ["config.yaml"]


def test_a_killed_job_lets_go_of_its_run(tmp_path, hold):
    holder = hold(str(tmp_path / "run"))
    holder.kill()
    holder.communicate()
    with lock_run(TrainReidConfig(data="images", output=str(tmp_path / "run")), None):
        pass


def test_a_link_to_a_run_is_the_same_run(tmp_path, hold):
    (tmp_path / "runs").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "runs")
    hold(str(tmp_path / "runs" / "one"))
    with (
        pytest.raises(UserError, match="another run is writing it"),
        RunDirectory.from_uri(str(tmp_path / "linked" / "one")).locked(),
    ):
        pass


def test_a_second_sweep_or_quickstart_of_one_folder_is_refused(tmp_path, hold):
    place = str(tmp_path / "out")
    hold(place)
    sweep = TuneConfig(data="images", output=place, recipe="demo", space=("batch",))
    with pytest.raises(UserError, match="another run is writing it"), claim_sweep_folder(sweep):
        pass
    with pytest.raises(UserError, match="another run is writing it"), lock_folder(place):
        pass


def test_jobs_without_an_output_have_places_of_their_own(tmp_path, monkeypatch):
    """Two may begin within one second."""
    monkeypatch.chdir(tmp_path)
    line = (
        "from reidray.config import TrainReidConfig;"
        "from reidray.training.runs.run_directory import lock_run;"
        "c = lock_run(TrainReidConfig(data='x'), None); print(c.__enter__().location.uri)"
    )
    jobs = [
        subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE) for _ in range(3)
    ]
    assert len({job.communicate()[0] for job in jobs}) == 3
    assert [job.returncode for job in jobs] == [0, 0, 0]


def test_a_run_in_a_bucket_that_another_job_took_over_is_not_written(bucket):
    run = RunDirectory.from_uri(f"{bucket}/run")
    (run.folder / "metrics.jsonl").write_text("{}\n")
    with run.locked():
        run.upload()
        run.location.write_bytes("writing.json", b"{}")
        with pytest.raises(UserError, match="another run began to write it"):
            run.upload()


def test_the_second_job_is_refused_before_pytorch_and_ray_load(tmp_path, hold):
    place = tmp_path / "run"
    hold(str(place))
    for job, more in (("train_reid", ()), ("train_multitask", ("--task", "pets"))):
        command = [sys.executable, "-X", "importtime", ROOT / "jobs" / f"{job}.py", *more]
        done = subprocess.run(
            [*command, "--data", ROOT, "--output", place],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, "")
        assert sum("error: " in line for line in lines) == 1
        imported = {line.rpartition("|")[2].strip() for line in lines}
        assert not imported & {"torch", "ray"}
