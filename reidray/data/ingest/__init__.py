"""From image files to crops that training processes read: one interface, two ways.

*Resident* decodes every image once and keeps the crops in the memory of the cluster; *stream*
decodes them anew every epoch, while the network computes, in memory that does not grow with the
set. What comes out is the same, pixel for pixel.
"""

from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.mode import CropDataset, IngestMode, choose_ingest_mode, ingest
from reidray.data.ingest.resident import ResidentCrops
from reidray.data.ingest.stream import StreamingCrops

__all__ = [
    "CropDataset",
    "ImageFiles",
    "IngestMode",
    "ResidentCrops",
    "StreamingCrops",
    "choose_ingest_mode",
    "ingest",
]
