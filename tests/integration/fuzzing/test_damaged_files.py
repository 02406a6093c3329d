import json
import subprocess
import sys
from pathlib import Path

import pytest
import targets

EVERY_DAY = 150
MODELS_EVERY_DAY = 40
ROUNDS = 10_000
MEGABYTES = 1_200


@pytest.mark.parametrize("name", targets.NAMES)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(name, tmp_path):
    rounds = MODELS_EVERY_DAY if name.startswith("model") else EVERY_DAY
    outcomes = targets.try_out(name, tmp_path, rounds)
    assert outcomes["read"] + outcomes["refused"] == rounds
    assert outcomes["refused"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", targets.NAMES)
def test_ten_thousand_damaged_files_kill_hang_and_swell_nothing(name):
    done = subprocess.run(
        [sys.executable, Path(targets.__file__), name, str(ROUNDS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(name, told)
    assert told["read"] + told["refused"] == ROUNDS
    assert min(told["read"], told["refused"]) > 0
    assert told["megabytes"] < MEGABYTES
