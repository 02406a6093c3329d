"""Read the few images of a training that its report shows."""

import numpy as np
from numpy.typing import NDArray

from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.manifest import Manifest
from reidray.reporting.dataset_figures.pictures import ImageSource

BATCH_SIZE = 64


def image_source(crops: CropDataset, manifest: Manifest) -> ImageSource:
    """Return a source of the crops of a training, by their rows in the manifest."""
    paths = manifest.table["path"]

    def read(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        starts = range(0, len(indices), BATCH_SIZE)
        groups = crops.sample([indices[start : start + BATCH_SIZE] for start in starts])
        return np.concatenate([group.crops for group in groups])

    return ImageSource(read, lambda index: str(paths[index].as_py()))
