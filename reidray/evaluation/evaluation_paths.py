"""Names of the files of an evaluation, and checks of its paths.

This module loads neither PyTorch nor Ray, so that a job refuses a wrong path at once.
"""

from reidray.config.scoring import EvaluateConfig
from reidray.data.ids import CAMERA_IDS_FILE, PERSON_IDS_FILE
from reidray.data.layouts import check_layout
from reidray.scoring.scoring_paths import MODEL_FILES
from reidray.storage.input_checks import check_data, check_file, check_folder
from reidray.storage.output_checks import check_disjoint
from reidray.storage.publishing import check_output

METRICS_FILE = "evaluation.json"
QUERIES_FILE = "per_query.csv"
CURVE_FILE = "cmc.png"
EVALUATION_FILES = frozenset(
    {METRICS_FILE, QUERIES_FILE, CURVE_FILE, PERSON_IDS_FILE, CAMERA_IDS_FILE}
)


def check_evaluate_inputs(config: EvaluateConfig) -> None:
    """Check that the inputs of an evaluation exist.

    Raises:
        UserError: one is missing; the message names its flag.
    """
    check_folder("--model", config.model, holds=MODEL_FILES)
    check_data("--data", config.data)
    check_layout(config.data, config.layout, follow_links=config.follow_links)
    check_folder("--gallery", config.gallery)
    for name in ("ranking", "truth", "attributes", "attributes_truth"):
        check_file(f"--{name.replace('_', '-')}", getattr(config, name))
    check_file("--query-features", config.query_features)
    check_file("--gallery-features", config.gallery_features)


def check_evaluate_outputs(config: EvaluateConfig) -> None:
    """Check that an evaluation can write its output, apart from its inputs.

    Raises:
        UserError: the folder cannot be written, holds other files, or lies within another one.
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
    check_disjoint(("--output", config.output), inputs)
    check_output(config.output, EVALUATION_FILES, METRICS_FILE)
