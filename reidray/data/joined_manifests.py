"""Join the manifests of several data sets, and keep their people and cameras apart."""

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from reidray.data.attribute_schema import UNKNOWN, Attribute, AttributeSchema
from reidray.data.ids import MAX_CAMERA_ID
from reidray.data.manifest import JoinedSet, Manifest, encode_names
from reidray.data.stored_rows import ROWS_AT_ONCE, store_rows
from reidray.errors import UserError
from reidray.storage.location import Location


@dataclass(frozen=True)
class _RenumberedIds:
    """Hold a column of renumbered ids, and the number of each id that was renumbered.

    Attributes:
        column: the column.
        numbers: the new number of each id, in the order of the ids.
    """

    column: pa.ChunkedArray
    numbers: Mapping[int, int]


def name_datasets(uris: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each data set: that of its folder, or of its manifest without suffix.

    A name that an earlier set has gets a number.

    >>> name_datasets(["sets/market", "s3://crops/duke", "b/people.csv", "old/market"])
    ('market', 'duke', 'people', 'market-2')

    Args:
        uris: the folders and manifest files.
    """
    names = [Location(uri).name or "data" for uri in uris]
    return number_repeated(
        posixpath.splitext(name)[0] if name.endswith((".csv", ".parquet")) else name
        for name in names
    )


def number_repeated(names: Iterable[str]) -> tuple[str, ...]:
    """Return names that all differ: a name that an earlier one has gets a number.

    >>> number_repeated(["a", "b", "a"])
    ('a', 'b', 'a-2')
    """
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name}-{number}"
        found.append(unique)
    return tuple(found)


def join_manifests(manifests: Mapping[str, Manifest]) -> Manifest:
    """Join the manifests of several data sets into one.

    The path of an image begins with the name of its set, which the column `dataset` holds too. The
    people of all sets are numbered from 1 in the order of the sets and of their ids, and so are the
    cameras, so that no person and no camera is in two sets; `person_ids` and `camera_ids` map names
    such as `market/2` to the numbers. Junk stays -1 and a distractor 0. An attribute that a set
    lacks is unknown in it. Columns of classes and masks are left out.

    Args:
        manifests: two or more manifests by the names of their sets.

    Raises:
        UserError: two sets give an attribute different values, or there are too many cameras.
    """
    schema = _join_schemas({name: each.schema for name, each in manifests.items()})
    tables: dict[str, pa.Table] = {}
    names = tuple(manifests)
    person_ids: dict[str, int] = {}
    camera_ids: dict[str, int] = {}
    for name, manifest in manifests.items():
        table = manifest.table
        people = _renumber(table["person"], least=1, first=len(person_ids) + 1)
        cameras = _renumber(table["camera"], least=0, first=len(camera_ids) + 1)
        person_ids |= _name_numbers(name, people.numbers, manifest.person_ids)
        camera_ids |= _name_numbers(name, cameras.numbers, manifest.camera_ids)
        columns = {
            "path": table["path"],
            "split": table["split"],
            "person": people.column,
            "camera": cameras.column,
            "dataset": encode_names(pa.chunked_array([pa.repeat(name, table.num_rows)]), names),
        }
        tables[name] = pa.table(columns | _attribute_columns(manifest, schema))
    if len(camera_ids) > MAX_CAMERA_ID:
        raise UserError(
            f"{', '.join(manifests)}: name {len(camera_ids)} cameras together, expected "
            f"{MAX_CAMERA_ID} at most"
        )
    types = tables[names[0]].schema
    types = types.set(types.get_field_index("camera"), pa.field("camera", pa.int16()))
    in_order = sorted(names, key=lambda name: f"{name}/")  # that of the joined paths
    rows = (batch for name in in_order for batch in _iter_below(name, tables[name], types))
    return Manifest(
        root=", ".join(each.root for each in manifests.values()),
        table=store_rows(rows, types),
        layout=", ".join(dict.fromkeys(each.layout for each in manifests.values())),
        schema=schema,
        notes=tuple(f"{name}: {note}" for name, each in manifests.items() for note in each.notes),
        person_ids=person_ids,
        camera_ids=camera_ids,
        follow_links=any(each.follow_links for each in manifests.values()),
        datasets={name: JoinedSet(each.root, each.layout) for name, each in manifests.items()},
    )


def check_images_differ(manifests: Mapping[str, Manifest]) -> None:
    """Check that no image is in two sets, as a folder within another one would have it.

    Its person would be two people, and a training image of one set a validation image of the other.

    Raises:
        UserError: names two sets and an image of both.
    """
    roots = {name: _place(manifest.root) for name, manifest in manifests.items()}
    for one, other in combinations(manifests, 2):
        if posixpath.commonpath([roots[one], roots[other]]) not in (roots[one], roots[other]):
            continue
        paths, others = (
            _join_paths(roots[name], manifests[name].table["path"]) for name in (one, other)
        )
        shared = paths.filter(pc.is_in(paths, value_set=others.combine_chunks()))
        if len(shared):
            raise UserError(
                f"the data sets {one} and {other} share {len(shared):,} images, such as "
                f"{shared[0]}: name each image in one set"
            )


def _join_paths(folder: str, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return paths below a folder, as large strings."""
    texts = pa.scalar(folder, pa.large_string()), paths, pa.scalar("/", pa.large_string())
    return pc.binary_join_element_wise(*texts)


def _iter_below(folder: str, table: pa.Table, types: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table with paths below a folder, and columns of some types."""
    for start in range(0, table.num_rows, ROWS_AT_ONCE):
        rows = table.slice(start, ROWS_AT_ONCE)
        rows = rows.set_column(0, "path", _join_paths(folder, rows["path"]))
        yield from rows.cast(types).combine_chunks().to_batches()


def _place(root: str) -> str:
    """Return the address of a folder from its beginning, with links followed."""
    location = Location(root)
    return f"/{location.uri}" if location.is_remote else os.path.realpath(location.uri)


def _renumber(column: pa.ChunkedArray, *, least: int, first: int) -> _RenumberedIds:
    """Number the ids of a column without gaps; keep nulls, and ids below `least`.

    Args:
        column: the ids.
        least: the smallest id to renumber.
        first: the first new number.
    """
    is_known = pc.greater_equal(column, least)
    ids = pc.unique(column.filter(is_known)).sort()
    numbers = pc.add(pc.index_in(column, value_set=ids).cast(pa.int64()), first)
    renumbered = pc.if_else(is_known, numbers, column.cast(pa.int64()))
    return _RenumberedIds(renumbered, {old: first + n for n, old in enumerate(ids.to_pylist())})


def _name_numbers(
    dataset: str, numbers: Mapping[int, int], names: Mapping[str, int]
) -> dict[str, int]:
    """Return the new number of each person or camera by its name within its data set.

    Args:
        dataset: name of the data set.
        numbers: the new number of each old one.
        names: the old numbers of those that have names.
    """
    name_of = {number: name for name, number in names.items()}
    return {f"{dataset}/{name_of.get(old, old)}": new for old, new in numbers.items()}


def _join_schemas(schemas: Mapping[str, AttributeSchema]) -> AttributeSchema:
    """Return a schema with the attributes of all sets.

    Where sets differ in the values of an attribute, it has those of the set that holds all of them.

    Raises:
        UserError: of two sets, each gives an attribute a value that the other lacks.
    """
    joined: dict[str, Attribute] = {}
    origin: dict[str, str] = {}
    for dataset, schema in schemas.items():
        for attribute in schema.attributes:
            known = joined.setdefault(attribute.name, attribute)
            other = origin.setdefault(attribute.name, dataset)
            if set(attribute.values) <= set(known.values):
                continue
            if not set(known.values) < set(attribute.values):
                raise UserError(
                    f"attribute {attribute.name!r} is {' or '.join(known.values)} in {other}, and "
                    f"{' or '.join(attribute.values)} in {dataset}: write the same values in both, "
                    "or give the attribute another name in one of them"
                )
            joined[attribute.name], origin[attribute.name] = attribute, dataset
    return AttributeSchema(tuple(joined.values()))


def _attribute_columns(manifest: Manifest, schema: AttributeSchema) -> dict[str, pa.ChunkedArray]:
    """Return the labels of a manifest's images for the attributes of a schema that holds its own.

    The label of an attribute that the manifest lacks is unknown.
    """
    own = dict(zip(manifest.schema.names, manifest.schema.attributes, strict=True))
    columns = {}
    for attribute, column in zip(schema.attributes, schema.columns, strict=True):
        if attribute.name not in own:
            columns[column] = pa.repeat(pa.scalar(UNKNOWN, pa.int8()), manifest.table.num_rows)
            continue
        labels = [attribute.values.index(value) for value in own[attribute.name].values]
        # Label -1, which means unknown, is the first entry and stays.
        new = pa.array([UNKNOWN, *labels], pa.int8())
        columns[column] = new.take(pc.add(manifest.table[column].cast(pa.int64()), 1))
    return columns
