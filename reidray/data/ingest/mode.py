"""Choose the mode of the ingest: in memory if the crops fit, else as a stream."""

import logging
from collections.abc import Sequence
from typing import Literal

from reidray.cluster_resources import object_store_bytes
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.resident import decode_resident
from reidray.data.ingest.stream import check_stream
from reidray.errors import UserError

log = logging.getLogger("reidray")

USABLE_SHARE = 0.8
"""Share of the object store of a node that crops may fill."""

IngestMode = Literal["resident", "stream"]


def choose_ingest_mode(
    files: ImageFiles,
    requested: Literal["auto", "resident", "stream"],
    other_sizes: Sequence[ImageFiles] = (),
) -> IngestMode:
    """Return the mode in which crops are ingested, and log it with the sizes that decide it.

    Each node with training processes holds one copy of resident crops, so that the smallest object
    store decides.

    Args:
        files: the images.
        requested: the mode that the user requests; `auto` is resident if the crops fit.
        other_sizes: the same images in other sizes, which are ingested too.

    Raises:
        UserError: resident is requested, and the object stores cannot hold the crops.
    """
    available = object_store_bytes()
    needed = sum(each.decoded_bytes for each in (files, *other_sizes))
    fits = needed <= USABLE_SHARE * available
    described = ", ".join(f"{each.size[0]}x{each.size[1]}" for each in (files, *other_sizes))
    sizes = (
        f"{len(files.paths):,} crops of {described} take {needed / 1e9:.2f} GB "
        f"and a node's object store holds {available / 1e9:.2f} GB"
    )
    if requested == "resident" and not fits:
        raise UserError(f"{sizes}: use `ingest=stream`, smaller crops or nodes with more memory")
    mode: IngestMode = "resident" if fits and requested != "stream" else "stream"
    log.info("ingest %s: %s", mode, sizes)
    return mode


def ingest(files: ImageFiles, mode: IngestMode) -> CropDataset:
    """Decode images, or check that they decode, across the cluster.

    Args:
        files: the images.
        mode: `resident` keeps the crops in the object store; `stream` decodes them again later.

    Returns:
        The crops, which training processes open and read, and the bad images by name.
    """
    return decode_resident(files) if mode == "resident" else check_stream(files)
