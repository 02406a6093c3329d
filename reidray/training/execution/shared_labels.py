"""Keep the labels of a training in Ray's object store, where the processes of a node share them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import ray

from reidray.data.crop_labels import CropLabels


@dataclass(frozen=True)
class SharedLabels(Mapping[str, CropLabels]):
    """Refer to the labels of the crops of each split.

    Every process of a node, the driver too, maps one copy of them, without memory of its own.

    Attributes:
        reference: reference to the labels by split.
    """

    reference: "ray.ObjectRef[dict[str, CropLabels]]"

    def __getitem__(self, split: str) -> CropLabels:
        """Return the labels of a split.

        Raises:
            KeyError: the split has no crops.
        """
        return self._labels()[split]

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the splits."""
        return iter(self._labels())

    def __len__(self) -> int:
        """Return the number of splits."""
        return len(self._labels())

    def _labels(self) -> dict[str, CropLabels]:
        labels: dict[str, CropLabels] = ray.get(self.reference)
        return labels
