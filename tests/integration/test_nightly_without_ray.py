"""Score a few images where Ray is not installed."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from support.nightly_runs import draw_images
from support.paths import ROOT


def link_packages_but_ray(folder):
    """Link the installed packages to a folder, except Ray and what configures Python's start."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0] != "ray" and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def test_a_small_nightly_run_needs_no_ray(model, tmp_path):
    images = draw_images(tmp_path / "images", people=4, variants=2)
    packages = link_packages_but_ray(tmp_path / "packages")
    command = [sys.executable, "-S", ROOT / "jobs" / "score_nightly.py", "--model", model]
    command += ["--queries", images / "queries", "--gallery", images / "gallery"]
    done = subprocess.run(
        [*command, "--output", tmp_path / "out", "--use-gpu", "no"],
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
