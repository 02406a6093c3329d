"""The files that a comparison leaves, and where it may leave them."""

from reidray.config.comparison import CompareConfig
from reidray.data.layouts import check_layout
from reidray.storage.input_checks import check_data, check_folder
from reidray.storage.output_checks import check_disjoint
from reidray.storage.publishing import check_output

FIGURES_FILE = "comparison.json"
TABLE_FILE = "table.csv"
REPORT_FILE = "report.html"


def check_compare_output(config: CompareConfig) -> None:
    """Refuse an output that a comparison could not write, or that would mix with its input.

    Raises:
        UserError: says what is wrong.
    """
    models = {f"--models {name}": folder for name, folder in config.model_folders.items()}
    check_disjoint(("--output", config.output), {"--data": config.data, **models})
    check_output(config.output)


def check_compare_inputs(config: CompareConfig) -> None:
    """Refuse a comparison whose images or models are missing.

    Raises:
        UserError: names the flag.
    """
    check_data("--data", config.data)
    for name, folder in config.model_folders.items():
        check_folder(f"--models {name}", folder, holds=("model.json",))
    check_layout(config.data, config.layout, follow_links=config.follow_links)
