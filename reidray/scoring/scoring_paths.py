"""Name the files of a nightly run, and check its paths.

This module loads neither PyTorch nor Ray, so that a job refuses a wrong path at once.
"""

from reidray.config.scoring import ForgetConfig, ScoreConfig
from reidray.storage.input_checks import NEEDED_MODEL_FILES, check_folder
from reidray.storage.output_checks import check_disjoint
from reidray.storage.publishing import check_output, check_store

RANKING_FILE = "reid_test.txt"
ATTRIBUTE_FILE = "classification_test.csv"
DISTRACTOR_FILE = "distractors.csv"
QUARANTINE_FILE = "quarantine.csv"
SUMMARY_FILE = "scoring.json"
OUTPUT_FILES = frozenset(
    {RANKING_FILE, ATTRIBUTE_FILE, DISTRACTOR_FILE, QUARANTINE_FILE, SUMMARY_FILE}
)


def check_score_inputs(config: ScoreConfig) -> None:
    """Check that the model and the image folders of a nightly run exist.

    Raises:
        UserError: an input is missing; the message names its field.
    """
    check_folder("model", config.model, holds=NEEDED_MODEL_FILES)
    check_folder("queries", config.queries)
    check_folder("gallery", config.gallery)


def check_score_outputs(config: ScoreConfig) -> None:
    """Check that a nightly run can write its output and its store, apart from its inputs.

    Raises:
        UserError: a folder cannot be written, holds other files, or lies within another one.
    """
    inputs = {"model": config.model, "queries": config.queries, "gallery": config.gallery}
    check_disjoint("output", config.output, {"store": config.store, **inputs})
    if config.store is not None:
        check_disjoint("store", config.store, inputs)
        check_store(config.store)
    check_output(config.output, OUTPUT_FILES, SUMMARY_FILE)


def check_forget_inputs(config: ForgetConfig) -> None:
    """Check that the store exists from which embeddings are to be deleted.

    Raises:
        UserError: the store is missing; the message names its flag.
    """
    check_folder("store", config.store)
