"""Hold the labels of the crops for training and evaluation."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.data.attribute_schema import UNKNOWN, AttributeSchema
from reidray.data.manifest import Manifest
from reidray.data.sampling.person_index import PersonIndex, index_type


@dataclass(frozen=True)
class CropLabels:
    """Hold the labels of N crops.

    Rows and people are int32 where that suffices, as each node of a training has a copy.

    Attributes:
        indices: (N,) int32 or int64, rows of the crops in the manifest.
        person_ids: (N,) int32 or int64, -1 where unknown.
        camera_ids: (N,) int16, -1 where unknown.
        attribute_labels: (N, A) int8, index of the value of each attribute, -1 where unknown.
        schema: the A attributes.
        class_labels: (N,) int16, index of the class, -1 where unknown; empty without classes.
        classes: names of the classes; empty where the data has none.
        datasets: names of the data sets where several are joined; else empty.
        dataset_indices: (N,) int16, index of each crop's set in `datasets`; None for one set.
    """

    indices: NDArray[Any]
    person_ids: NDArray[Any]
    camera_ids: NDArray[np.int16]
    attribute_labels: NDArray[np.int8]
    schema: AttributeSchema
    class_labels: NDArray[np.int16]
    classes: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    dataset_indices: NDArray[np.int16] | None = None

    @classmethod
    def from_manifest(cls, manifest: Manifest, split: str) -> Self:
        """Return the labels of the images in one split of a manifest."""
        indices = np.flatnonzero(pc.equal(manifest.table["split"], split).to_numpy())

        def column(name: str) -> NDArray[Any]:
            chosen = manifest.table[name].take(indices)
            return np.asarray(chosen.fill_null(UNKNOWN).to_numpy())

        person_ids = column("person")
        datasets = tuple(manifest.datasets)
        attributes = [column(name).astype(np.int8) for name in manifest.schema.columns]
        return cls(
            indices=indices.astype(index_type(manifest.table.num_rows)),
            person_ids=person_ids.astype(index_type(int(person_ids.max(initial=0)))),
            camera_ids=column("camera").astype(np.int16),
            attribute_labels=np.stack(attributes, axis=1)
            if attributes
            else np.zeros((len(indices), 0), dtype=np.int8),
            schema=manifest.schema,
            class_labels=column("label").astype(np.int16)
            if manifest.classes
            else np.zeros(0, dtype=np.int16),
            classes=manifest.classes,
            datasets=datasets,
            dataset_indices=_index_datasets(manifest.table["dataset"].take(indices), datasets)
            if datasets
            else None,
        )

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.indices)

    @property
    def targets(self) -> NDArray[np.int16] | NDArray[np.int8]:
        """Return the labels that a multi-task network predicts.

        Returns:
            (N, L) int16 or int8, -1 where unknown: the class, or else a value for each attribute.
        """
        return self.class_labels[:, None] if self.classes else self.attribute_labels

    @property
    def target_values(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the values of each of the L targets, by the target's name."""
        if self.classes:
            return {"class": self.classes}
        return {attribute.name: attribute.values for attribute in self.schema.attributes}

    @cached_property
    def people(self) -> PersonIndex:
        """Return the crops of each person, as computed by the first access.

        It travels with the labels, so that processes that get both share it.
        """
        return PersonIndex.from_person_ids(self.person_ids)

    @property
    def unique_person_ids(self) -> NDArray[Any]:
        """Return the sorted ids of the n people in the crops, (n,)."""
        return self.person_ids[self.people.order[self.people.starts]]

    @property
    def num_people(self) -> int:
        """Return the number of people in the crops."""
        return self.people.num_people

    @property
    def cameras(self) -> NDArray[np.int16]:
        """Return the sorted ids of the cameras that took the crops, without unknown ones."""
        return np.unique(self.camera_ids[self.camera_ids >= 0])

    @property
    def dataset_masks(self) -> dict[str, NDArray[np.bool_]]:
        """Return the mask, (N,) bool, of the crops of each joined data set by its name.

        One set that is not joined has an empty name.
        """
        if self.dataset_indices is None:
            return {"": np.ones(len(self), dtype=np.bool_)}
        return {name: self.dataset_indices == index for index, name in enumerate(self.datasets)}

    def by_dataset(self) -> dict[str, Self]:
        """Return the labels of the crops of each data set, named as in `dataset_masks`."""
        if self.dataset_indices is None:
            return {"": self}
        return {name: self.take(mask) for name, mask in self.dataset_masks.items()}

    def take(self, keep: NDArray[np.bool_]) -> Self:
        """Return the labels of the crops where the mask `keep`, (N,) bool, is true."""
        return replace(
            self,
            indices=self.indices[keep],
            person_ids=self.person_ids[keep],
            camera_ids=self.camera_ids[keep],
            attribute_labels=self.attribute_labels[keep],
            class_labels=self.class_labels[keep] if self.classes else self.class_labels,
            dataset_indices=None if self.dataset_indices is None else self.dataset_indices[keep],
        )

    def take_decoded(self, decoded: NDArray[np.bool_]) -> Self:
        """Return the labels of the crops that decode, given a mask of the rows of the manifest."""
        keep = decoded[self.indices]
        return self if keep.all() else self.take(keep)


def _index_datasets(names: pa.ChunkedArray, datasets: tuple[str, ...]) -> NDArray[np.int16]:
    """Return the index of each data set named, (N,) int16."""
    indices = pc.index_in(names, value_set=pa.array(datasets))
    return np.asarray(indices.to_numpy()).astype(np.int16)
