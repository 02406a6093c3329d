"""Check the folder of the quickstart before PyTorch and Ray load."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidray.demo import check_demo_folder
from reidray.scoring.scoring_paths import OUTPUT_FILES, SUMMARY_FILE
from reidray.storage.publishing import check_output
from reidray.training.runs.run_directory import RunDirectory

DATA_FOLDER, RUN_FOLDER, SCORES_FOLDER = "data", "run", "scores"


@contextmanager
def lock_folder(name: str | None) -> Iterator[Path]:
    """Yield the folder of a quickstart, and keep every other job from writing it.

    Args:
        name: path of the folder; by default a new one under `runs/`.

    Raises:
        UserError: another job is writing the folder, or it holds other files.
    """
    if name is None:
        name = time.strftime(f"runs/quickstart-%Y%m%d-%H%M%S-{os.getpid()}")
    folder = Path(name)
    with RunDirectory.from_uri(str(folder)).locked():
        check_quickstart_folder(folder)
        yield folder


def check_quickstart_folder(folder: Path) -> None:
    """Check that the quickstart can write its data, its run and its scores into a folder.

    Raises:
        UserError: a part cannot be written; the message names the part and the reason.
    """
    check_demo_folder(folder / DATA_FOLDER)
    RunDirectory.from_uri(str(folder / RUN_FOLDER)).check_new("start again in a new `output`")
    check_output(str(folder / SCORES_FOLDER), OUTPUT_FILES, SUMMARY_FILE)
