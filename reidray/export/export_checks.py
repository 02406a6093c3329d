"""Check the inputs and the output of an export, without loading PyTorch."""

from importlib.util import find_spec

from reidray.config.jobs.exporting import ExportConfig
from reidray.errors import UserError
from reidray.storage.input_checks import NEEDED_MODEL_FILES, check_folder
from reidray.storage.output_checks import check_disjoint
from reidray.storage.outputs.new_files import check_new_file

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_export(config: ExportConfig) -> None:
    """Check that a model exists, that its file can be written, and that the packages are there.

    Raises:
        UserError: an input is missing, the output exists or cannot be written, or a package is
            missing.
    """
    check_folder("model", config.model, holds=NEEDED_MODEL_FILES)
    check_folder("check_images", config.check_images)
    check_disjoint("output", config.output, {"model": config.model})
    check_new_file("output", config.output)
    missing = [name for name in ONNX_PACKAGES if not _is_installed(name)]
    if config.format == "onnx" and missing:
        raise UserError(
            f"`format=onnx` needs {', '.join(missing)}: install reidray[export], or in a checkout "
            "run uv sync --extra export"
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module without a specification, as one that may not be imported
        return False
