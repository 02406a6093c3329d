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
def claim_folder(name: str | None) -> Iterator[Path]:
    """Choose the folder of a quickstart, and keep every other job from writing it.

    Args:
        name: of the folder; by default a new one under runs/.

    Raises:
        UserError: another job is writing it, or it is not what it should be.
    """
    if name is None:
        name = time.strftime(f"runs/quickstart-%Y%m%d-%H%M%S-{os.getpid()}")
    folder = Path(name)
    with RunDirectory.at(str(folder)).claimed():
        check_quickstart_places(folder)
        yield folder


def check_quickstart_places(folder: Path) -> None:
    """Refuse a folder in which the quickstart could not write its parts.

    Raises:
        UserError: says what is wrong with which.
    """
    check_demo_folder(folder / DATA_FOLDER)
    RunDirectory.at(str(folder / RUN_FOLDER)).check_new("start again in a new `output`")
    check_output(str(folder / SCORES_FOLDER), OUTPUT_FILES, SUMMARY_FILE)
