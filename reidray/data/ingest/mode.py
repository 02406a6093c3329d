"""Which mode the crops take: through memory where they fit, else anew every epoch."""

import logging
from typing import Literal

from reidray.cluster_resources import object_store_bytes
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.resident import ResidentCrops, decode_resident
from reidray.data.ingest.stream import StreamingCrops, survey_stream
from reidray.errors import UserError

log = logging.getLogger("reidray")

USABLE = 0.8
"""Share of a node's object store that crops may fill."""

IngestMode = Literal["resident", "stream"]
CropDataset = ResidentCrops | StreamingCrops


def choose_ingest_mode(
    files: ImageFiles, asked: Literal["auto", "resident", "stream"]
) -> IngestMode:
    """How the crops are to be had; says it with the numbers.

    Every node whose processes train holds one copy of resident crops, so that the smallest object
    store counts.

    Raises:
        UserError: resident is asked for and the object stores cannot hold the crops.
    """
    held = object_store_bytes()
    fits = files.decoded_bytes <= USABLE * held
    height, width = files.size
    numbers = (
        f"{len(files.paths):,} crops of {height}x{width} take {files.decoded_bytes / 1e9:.2f} GB "
        f"and a node's object store holds {held / 1e9:.2f} GB"
    )
    if asked == "resident" and not fits:
        raise UserError(f"{numbers}: use --ingest stream, smaller crops or nodes with more memory")
    mode: IngestMode = "resident" if fits and asked != "stream" else "stream"
    log.info("ingest %s: %s", mode, numbers)
    return mode


def ingest(files: ImageFiles, mode: IngestMode) -> CropDataset:
    """Have the crops, or see that they can be had; what does not decode is set aside by name."""
    return decode_resident(files) if mode == "resident" else survey_stream(files)
