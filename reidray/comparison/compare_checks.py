"""Check the inputs and the output of a comparison before PyTorch and Ray load."""

from reidray.config.comparison import CompareConfig
from reidray.data.layouts import check_layout
from reidray.storage.input_checks import check_data, check_folder
from reidray.storage.output_checks import check_disjoint
from reidray.storage.publishing import check_output

METRICS_FILE = "comparison.json"
TABLE_FILE = "table.csv"
REPORT_FILE = "report.html"
COMPARISON_FILES = frozenset({METRICS_FILE, TABLE_FILE, REPORT_FILE})
"""Files of an output, which a later comparison replaces."""


def check_compare_output(config: CompareConfig) -> None:
    """Check that the output can be written and does not overlap with an input.

    Raises:
        UserError: the output cannot be written or overlaps with an input.
    """
    models = {f"models={name}": folder for name, folder in config.model_folders.items()}
    check_disjoint("output", config.output, {"data": config.data, **models})
    check_output(config.output, COMPARISON_FILES, METRICS_FILE)


def check_compare_inputs(config: CompareConfig) -> None:
    """Check that the images and the models exist.

    Raises:
        UserError: an input is missing; the message names its field.
    """
    check_data("data", config.data)
    for name, folder in config.model_folders.items():
        check_folder(f"models={name}", folder, holds=("model.json",))
    check_layout(config.data, config.layout, follow_links=config.follow_links)
