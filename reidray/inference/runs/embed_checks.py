"""Check the inputs and the output of an embedding, without loading PyTorch."""

from reidray.config.jobs.embedding import NO_LAYOUT, EmbedConfig
from reidray.data.layouts import check_layout
from reidray.storage.input_checks import NEEDED_MODEL_FILES, check_data, check_folder
from reidray.storage.location import Location
from reidray.storage.output_checks import check_disjoint
from reidray.storage.outputs.new_files import check_new_file


def check_embed(config: EmbedConfig) -> None:
    """Check that model and data exist, and that the output can be written apart from them.

    Raises:
        UserError: an input is missing, or the output exists or cannot be written.
    """
    check_folder("model", config.model, holds=NEEDED_MODEL_FILES)
    check_data("data", config.data)
    if config.layout not in ("auto", NO_LAYOUT):
        check_layout(config.data, config.layout, follow_links=config.follow_links)
    check_disjoint("output", config.output, {"model": config.model, "data": config.data})
    check_new_file("output", config.output)
    check_new_file("output", quarantine_of(config.output))


def quarantine_of(output: str) -> str:
    """Return the file beside an output that names the images that do not decode.

    >>> quarantine_of("/data/embeddings.parquet")
    '/data/embeddings.quarantine.csv'
    """
    location = Location(output)
    name = location.name.removesuffix(".parquet")
    return location.parent.join(f"{name}.quarantine.csv").uri
