"""The files that the scoring and evaluation jobs leave, and where they may leave them.

Nothing here loads PyTorch or Ray, so that a wrong place is refused at once.
"""

from reidray.config.scoring import EvaluateConfig, ScoreConfig
from reidray.data.ids import CAMERA_IDS_FILE, PERSON_IDS_FILE
from reidray.storage.output_checks import check_apart
from reidray.storage.publishing import check_output, check_store

RANKING_FILE = "reid_test.txt"
ATTRIBUTE_FILE = "classification_test.csv"
DISTRACTOR_FILE = "distractors.csv"
QUARANTINE_FILE = "quarantine.csv"
SUMMARY_FILE = "scoring.json"
OUTPUT_FILES = frozenset(
    {RANKING_FILE, ATTRIBUTE_FILE, DISTRACTOR_FILE, QUARANTINE_FILE, SUMMARY_FILE}
)

FIGURES_FILE = "evaluation.json"
QUERIES_FILE = "per_query.csv"
CURVE_FILE = "cmc.png"
EVALUATION_FILES = frozenset(
    {FIGURES_FILE, QUERIES_FILE, CURVE_FILE, PERSON_IDS_FILE, CAMERA_IDS_FILE}
)


def check_score_places(config: ScoreConfig) -> None:
    """Refuse an output or a store that a nightly run could not write, or that would mix with input.

    Raises:
        UserError: says what is wrong with which.
    """
    inputs = {"--model": config.model, "--queries": config.queries, "--gallery": config.gallery}
    check_apart(("--output", config.output), {"--store": config.store, **inputs})
    if config.store is not None:
        check_apart(("--store", config.store), inputs)
        check_store(config.store)
    check_output(config.output, OUTPUT_FILES, SUMMARY_FILE)


def check_evaluate_places(config: EvaluateConfig) -> None:
    """Refuse an output that an evaluation could not write, or that would mix with its input.

    Raises:
        UserError: says what is wrong.
    """
    if config.output is None:
        return
    inputs = {
        "--ranking": config.ranking,
        "--truth": config.truth,
        "--gallery": config.gallery,
        "--attributes": config.attributes,
        "--attributes-truth": config.attributes_truth,
        "--query-features": config.query_features,
        "--gallery-features": config.gallery_features,
        "--model": config.model,
        "--data": config.data,
    }
    check_apart(("--output", config.output), inputs)
    check_output(config.output, EVALUATION_FILES, FIGURES_FILE)
