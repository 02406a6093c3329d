"""Score a few images where Ray is not installed."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.nightly_runs import draw_images
from support.paths import ROOT


def link_packages_but_ray(folder):
    """Link the installed packages to a folder, except Ray and what configures Python's start."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0] != "ray" and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


PYTHON_CALL = """
import sys
from reidray.config.scoring import ScoreConfig
from reidray.scoring.nightly_run import run_nightly

given = dict(zip([name.strip("-") for name in sys.argv[1::2]], sys.argv[2::2]))
run_nightly(ScoreConfig(**{name.replace("-", "_"): value for name, value in given.items()}))
"""


@pytest.mark.parametrize("call", [(ROOT / "jobs" / "score_nightly.py",), ("-c", PYTHON_CALL)])
def test_a_small_nightly_run_needs_no_ray(model, tmp_path, call):
    images = draw_images(tmp_path / "images", people=4, variants=2)
    packages = link_packages_but_ray(tmp_path / "packages")
    command = [sys.executable, "-S", *call, "--model", model]
    command += ["--queries", images / "queries", "--gallery", images / "gallery"]
    done = subprocess.run(
        [*command, "--output", tmp_path / "out", "--use-gpu", "auto"],
        env={**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "scoring.json").read_text())
    assert (summary["queries"], summary["gallery"], summary["embedded"]) == (4, 8, 12)
    assert summary["versions"]["ray"] is None
    assert summary["versions"]["torch"]
