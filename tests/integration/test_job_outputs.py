"""Jobs refuse an output that they could not write at once: in one line, before PyTorch loads."""

import subprocess
import sys

import pytest
from support.paths import JOBS

COMMANDS = [
    "score_nightly.py --model m --queries q --gallery g --output out --store out/store",
    "embed.py --model m --data q --output file/x.parquet",
    "export.py --model m --output file/x.onnx",
    "evaluate.py --ranking q --truth g --output file",
    "compare.py --data q --output file",
    "recommend.py --ratings q --movies g --output file",
    "train_reid.py --data q --output q/run",
    "tune.py --data q --recipe vgg_triplet_rgb --space epochs --output file",
    "quickstart.py --output file",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_output_is_refused_in_one_line_before_anything_loads(tmp_path, command):
    (tmp_path / "file").write_text("mine")
    for name in "mqg":
        (tmp_path / name).mkdir()
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", JOBS / script, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    told = [line for line in lines if not line.startswith("import time")]
    assert (done.returncode, done.stdout, len(told)) == (2, "", 1), told
    assert told[0].startswith("error: ")
    assert "pyarrow" in imported
    assert not {"torch", "ray"} & imported
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "g", "m", "q"]
