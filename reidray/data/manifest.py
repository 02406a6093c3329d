"""Hold the images of a data set, and everything known of them, in one Arrow table."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from reidray.data.attribute_schema import AttributeSchema
from reidray.data.joined_folders import JoinedFolders
from reidray.data.stored_rows import ROWS_AT_ONCE
from reidray.storage.location import Location

NO_ATTRIBUTES = AttributeSchema()
SPLITS = ("train", "val", "query", "gallery")
NAME_TYPE = pa.dictionary(pa.int16(), pa.string())
"""Type of columns of few names: a number for each row, and the name of each number."""


@dataclass(frozen=True)
class JoinedSet:
    """Hold the origin of a data set that is joined with others.

    Attributes:
        root: the folder of its images, a local path or `s3://` address.
        layout: the name of the layout from which it was read.
    """

    root: str
    layout: str


@dataclass(frozen=True)
class Manifest:
    """Hold the images of a data set: one row per image in a frozen Arrow table.

    `read_manifest` reads one from a folder or a file. `manifest.table.to_pandas()` is a data frame.

    | column | type | content |
    |---|---|---|
    | `path` | large_string | the image, relative to `root` |
    | `split` | string, as a dictionary | `train`, `val`, `query` or `gallery` |
    | `person` | int64 | null: unknown; -1: junk; 0: distractor |
    | `camera` | int16 | null: unknown |
    | `attr_<name>` | int8 | index of the value of an attribute of `schema`; -1: unknown |
    | `label` | int16 | index of the class in `classes`; in labelled sets only |
    | `mask_path` | large_string | the mask, relative to `root`; in sets with masks only |
    | `dataset` | string, as a dictionary | name of the data set; where several are joined only |

    The rows of a large table lie in a temporary file that is mapped into memory (see `store_rows`).

    Attributes:
        root: the folder to which the paths are relative, a local path or `s3://` address.
        table: the table, sorted by `path`.
        layout: the name of the layout from which it was read.
        schema: the attributes; empty if the set has none.
        classes: the names of the labels; empty if the set has none.
        notes: findings that were counted and did not stop the reading, a line each.
        person_ids: the number of each person's name, if people have names; else empty.
        camera_ids: the number of each camera's name, if cameras have names; else empty.
        follow_links: whether images are read to which links out of the root lead.
        datasets: the data sets by name, where several are joined (see `join_manifests`); their
            paths then begin with the name. Empty for one set.
    """

    root: str
    table: pa.Table
    layout: str
    schema: AttributeSchema = NO_ATTRIBUTES
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    person_ids: Mapping[str, int] = field(default_factory=dict)
    camera_ids: Mapping[str, int] = field(default_factory=dict)
    follow_links: bool = False
    datasets: Mapping[str, JoinedSet] = field(default_factory=dict)

    @property
    def location(self) -> Location:
        """Return the folder from which the images are read.

        Raises:
            ValueError: several data sets are joined, which have a folder each (see `files`).
        """
        if self.datasets:
            raise ValueError(f"the images of {', '.join(self.datasets)} lie in several folders")
        return Location(self.root, self.follow_links)

    @property
    def files(self) -> Location | JoinedFolders:
        """Return the folder, or the joined folders, in which each path of the table is read."""
        if not self.datasets:
            return self.location
        return JoinedFolders(
            {name: Location(each.root, self.follow_links) for name, each in self.datasets.items()}
        )

    @property
    def summary(self) -> dict[str, Any]:
        """Return the root, the layout, the counts of each split that has images, and the notes.

        Where several data sets are joined, `datasets` holds these of each set by its name.
        """
        summary = {"root": self.root, "layout": self.layout, **_count_splits(self.table)}
        if self.datasets:
            rows = self.by_dataset("split", "person", "camera")
            summary["datasets"] = {
                name: {
                    "root": each.root,
                    "layout": each.layout,
                    **_count_splits(rows[name]),
                }
                for name, each in self.datasets.items()
            }
        return summary | {"notes": list(self.notes)}

    @property
    def description(self) -> str:
        """Return the layout, or the number of joined sets, and the counts of each split.

        It is one line.
        """
        parts = []
        for split, counts in _count_splits(self.table).items():
            images = counts.pop("images")
            more = ", ".join(_count(count, name) for name, count in counts.items() if count)
            parts.append(f"{split} {_count(images, 'images')}{f' ({more})' if more else ''}")
        what = f"{len(self.datasets)} sets" if self.datasets else f"layout {self.layout}"
        return f"{what}: {'; '.join(parts)}"

    def split(self, name: str) -> pa.Table:
        """Return the rows of one split, sorted by path.

        Args:
            name: `train`, `val`, `query` or `gallery`.

        Raises:
            ValueError: there is no split of that name.
        """
        if name not in SPLITS:
            raise ValueError(f"split {name!r} is none of {', '.join(SPLITS)}")
        return _rows_in(self.table, name)

    def rows_of(self, dataset: str) -> pa.Table:
        """Return the rows of one of several data sets that are joined, sorted by path."""
        return self.table.filter(pc.equal(self.table["dataset"], dataset))

    def by_dataset(self, *columns: str) -> dict[str, pa.Table]:
        """Return some columns of each joined data set by its name; of one set, by an empty name."""
        if not self.datasets:
            return {"": self.table.select(columns)}
        table, dataset = self.table.select(columns), self.table["dataset"]
        return {name: table.filter(pc.equal(dataset, name)) for name in self.datasets}

    @cached_property
    def fingerprint(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 of columns and rows.

        Paths count as strings, and so do names in a dictionary, as all of them once were strings.
        """
        texts = (pa.large_string(), NAME_TYPE)
        fields = [
            (each.name, pa.string() if each.type in texts else each.type)
            for each in self.table.schema
        ]
        plain = pa.schema(fields)
        digest = hashlib.sha256(plain.to_string(show_schema_metadata=False).encode())
        options = pacsv.WriteOptions(include_header=False)
        for start in range(0, self.table.num_rows, ROWS_AT_ONCE):
            text = io.BytesIO()
            rows = self.table.slice(start, ROWS_AT_ONCE).cast(plain)
            pacsv.write_csv(rows, text, options)
            digest.update(text.getvalue())
        return digest.hexdigest()[:16]


def encode_names(column: pa.ChunkedArray, names: Sequence[str]) -> pa.ChunkedArray:
    """Return a column of some names as a dictionary, in which a name's number is its index."""
    codes = pc.index_in(column, value_set=pa.array(names)).cast(NAME_TYPE.index_type)
    chunks = [pa.DictionaryArray.from_arrays(chunk, pa.array(names)) for chunk in codes.chunks]
    return pa.chunked_array(chunks, NAME_TYPE)


def _rows_in(table: pa.Table, split: str) -> pa.Table:
    return table.filter(pc.equal(table["split"], split))


def _count_splits(table: pa.Table) -> dict[str, Any]:
    """Return the counts of images, people and others in each split that has images."""
    counted = ("split", "person", "camera", "label")
    table = table.select([name for name in counted if name in table.column_names])
    counts = {split: _count_rows(_rows_in(table, split)) for split in SPLITS}
    return {split: each for split, each in counts.items() if each["images"]}


def _count_rows(table: pa.Table) -> dict[str, int]:
    person, camera = table["person"], table["camera"]
    people = pc.count_distinct(person.filter(pc.greater(person, 0)), mode="only_valid")
    counts = {
        "images": table.num_rows,
        "people": people.as_py(),
        "cameras": pc.count_distinct(camera, mode="only_valid").as_py(),
        "distractors": pc.sum(pc.equal(person, 0)).as_py() or 0,
        "junk": pc.sum(pc.equal(person, -1)).as_py() or 0,
    }
    if "label" in table.column_names:
        counts["classes"] = pc.count_distinct(table["label"], mode="only_valid").as_py()
    return counts


def _count(count: int, what: str) -> str:
    """Return a count with its noun, in the singular or the plural.

    >>> _count(1, "people"), _count(1, "classes"), _count(1200, "images")
    ('1 person', '1 class', '1,200 images')
    """
    if count != 1:
        return f"{count:,} {what}"
    return f"1 {({'people': 'person', 'classes': 'class'}).get(what, what.removesuffix('s'))}"
