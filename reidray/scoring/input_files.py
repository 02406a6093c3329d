"""Check the inputs of scoring, evaluation and forgetting before PyTorch and Ray load."""

from reidray.config.scoring import EvaluateConfig, ForgetConfig, ScoreConfig
from reidray.data.layouts import check_layout
from reidray.storage.input_checks import check_data, check_file, check_folder

MODEL_FILES = ("model.json",)


def check_score_inputs(config: ScoreConfig) -> None:
    """Refuse a nightly run whose model or images are missing.

    Raises:
        UserError: names the flag.
    """
    check_folder("--model", config.model, holds=MODEL_FILES)
    check_folder("--queries", config.queries)
    check_folder("--gallery", config.gallery)


def check_evaluate_inputs(config: EvaluateConfig) -> None:
    """Refuse an evaluation of anything that is missing.

    Raises:
        UserError: names the flag.
    """
    check_folder("--model", config.model, holds=MODEL_FILES)
    check_data("--data", config.data)
    check_layout(config.data, config.layout, follow_links=config.follow_links)
    check_folder("--gallery", config.gallery)
    for name in ("ranking", "truth", "attributes", "attributes_truth"):
        check_file(f"--{name.replace('_', '-')}", getattr(config, name))
    check_file("--query-features", config.query_features)
    check_file("--gallery-features", config.gallery_features)


def check_forget_inputs(config: ForgetConfig) -> None:
    """Refuse to forget in a store that is missing.

    Raises:
        UserError: names the flag.
    """
    check_folder("--store", config.store)
