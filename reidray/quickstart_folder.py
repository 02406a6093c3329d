"""Check where the quickstart writes, before PyTorch and Ray load."""

from pathlib import Path

from reidray.data.demo import check_demo_folder
from reidray.data.publishing import check_output
from reidray.scoring.output_files import OUTPUT_FILES, SUMMARY_FILE
from reidray.training.run_directory import RunDirectory

DATA_FOLDER, RUN_FOLDER, SCORES_FOLDER = "data", "run", "scores"


def check_quickstart_places(folder: Path) -> None:
    """Refuse a folder in which the quickstart could not write its parts.

    Raises:
        UserError: says what is wrong with which.
    """
    check_demo_folder(folder / DATA_FOLDER)
    RunDirectory.at(str(folder / RUN_FOLDER)).check_new("start again in a new --folder")
    check_output(str(folder / SCORES_FOLDER), OUTPUT_FILES, SUMMARY_FILE)
