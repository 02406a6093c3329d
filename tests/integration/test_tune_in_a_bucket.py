import csv
import io
import json
import time

import pytest
from support.sweeps import EPOCHS, ended_trials, finish, make_inputs, start

from reidray.models import load_model
from reidray.storage.location import Location

pytestmark = pytest.mark.cluster


@pytest.mark.slow
def test_a_killed_sweep_in_a_bucket_resumes(bucket, unreliable, tmp_path):
    given, output = make_inputs(tmp_path), f"{bucket}/sweep"
    asked = ("--num-samples", 4, "--no-stop-early", "--ray-address", "local")
    job = start(given, output, *asked)
    while not ended_trials(output):
        assert job.poll() is None, job.communicate()
        time.sleep(0.2)
    job.kill()
    job.communicate()

    unreliable.busy = 0.02
    code, stdout, messages = finish(start(given, output, *asked, "--resume"))
    assert code == 0, messages
    made = json.loads(stdout.splitlines()[-1])
    assert (made["trials"], made["failed"], made["unfinished"]) == (4, 0, 0)
    assert made["epochs_spent"] == 4 * EPOCHS
    folder = Location(output)
    rows = list(csv.DictReader(io.StringIO(folder.read_bytes("trials.csv").decode())))
    assert [row["state"] for row in rows] == ["finished"] * 4
    assert made["report"] == f"{output}/report.html"
    assert b"Learning curves of all trials" in folder.read_bytes("report.html")
    model = load_model(made["model"])
    best = max(float(row["attribute_accuracy"]) for row in rows)
    assert model.card.metrics["attribute_accuracy"] == pytest.approx(best)
