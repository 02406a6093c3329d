"""Read files of features of any network: `.npz` or Parquet, a row for each image."""

import zipfile
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as papq
from numpy.typing import NDArray

from reidray.data.ids import (
    EXACT_INTEGER_LIMIT,
    MISSING_VALUES,
    NO_NAMES,
    nontrivial_names,
    number_camera_ids,
    number_person_ids,
    parse_id,
)
from reidray.data.reading.file_names import parse_crop_name
from reidray.errors import UserError
from reidray.evaluation.image_labels import ImageLabels

Array = NDArray[Any]

# Errors of NumPy and zipfile for broken files, whose headers may declare arrays of any size.
_BROKEN_ARCHIVE = (
    *(OSError, ValueError, EOFError, RuntimeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error),
)

EMBEDDING, PERSON, CAMERA, PATH = COLUMNS = ("embedding", "person", "camera", "path")


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Hold the features of N images of any network, and their labels.

    Attributes:
        embeddings: (N, D) float32, float16 or float64.
        labels: labels of the N images.
        uncertainty: (N,) float32 uncertainty of the predicted attributes; None where unknown.
    """

    embeddings: Array
    labels: ImageLabels
    uncertainty: Array | None = None


@dataclass(frozen=True)
class FeatureFiles:
    """Hold the features of queries and gallery, with common person and camera ids.

    Attributes:
        query: features of the queries.
        gallery: features of the gallery.
        person_ids: person ids by name, of people with names.
        camera_ids: camera ids by name, of cameras with names.
    """

    query: ImageFeatures
    gallery: ImageFeatures
    person_ids: Mapping[str, int]
    camera_ids: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _FeatureFile:
    """Hold the columns of a file.

    Attributes:
        file: name of the file.
        embeddings: (N, D).
        raw_person_ids: N numbers or texts.
        raw_camera_ids: N numbers or texts; None where a camera is unknown.
        names: N file names; None where they are unknown.
    """

    file: str
    embeddings: Array
    raw_person_ids: Array
    raw_camera_ids: Array | None
    names: tuple[str, ...] | None


def read_features(query_file: str, gallery_file: str) -> FeatureFiles:
    """Read a file of the queries' features and a file of the gallery's.

    A file has the column `embedding` (N, D) and, with a value for each of its N rows, `person` and
    where known `camera` (numbers or names), and `path` (file names). Without `person`, the file
    names hold person and camera. In Parquet, `embedding` is a list column. Nothing is unpickled.

    Args:
        query_file: name of a file that ends in .npz or .parquet.
        gallery_file: name of a file that ends in .npz or .parquet.

    Raises:
        UserError: a file cannot be read, or lacks these columns.
    """
    files = [_read(query_file), _read(gallery_file)]
    person_ids, names_of_people = _number_ids(
        {each.file: each.raw_person_ids for each in files}, PERSON, number_person_ids
    )
    camera_ids, names_of_cameras = _number_ids(
        {each.file: each.raw_camera_ids for each in files if each.raw_camera_ids is not None},
        CAMERA,
        number_camera_ids,
    )
    query, gallery = (
        ImageFeatures(
            each.embeddings,
            ImageLabels(person_ids[each.file], camera_ids.get(each.file), each.names),
        )
        for each in files
    )
    return FeatureFiles(query, gallery, names_of_people, names_of_cameras)


def _read(file: str) -> _FeatureFile:
    """Return the columns of a file.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    path = Path(file)
    readers = {".npz": _read_npz, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise UserError(f"{file}: expected a file whose name ends in .npz or .parquet")
    if not path.is_file():
        raise UserError(f"{file}: there is no such file; check the name")
    columns = readers[path.suffix.lower()](path, file)
    embeddings = columns[EMBEDDING]
    if embeddings.ndim != 2 or embeddings.dtype.kind not in "fiu" or not embeddings.size:
        raise UserError(
            f"{file}: {EMBEDDING} is {embeddings.dtype} of shape {embeddings.shape}, "
            "expected real numbers, a row for each image"
        )
    for name, values in columns.items():
        if name != EMBEDDING and values.shape != embeddings.shape[:1]:
            raise UserError(
                f"{file}: {name} has shape {values.shape}, expected one value for each of the "
                f"{len(embeddings)} rows of {EMBEDDING}"
            )
    names = _names(columns[PATH], file) if PATH in columns else None
    cameras = _known_cameras(columns[CAMERA]) if CAMERA in columns else None
    if PERSON in columns:
        return _FeatureFile(file, embeddings, columns[PERSON], cameras, names)
    crops = []
    for name in names or ():
        crop = parse_crop_name(name)
        if crop is None:
            raise UserError(
                f"{file}: {PATH} {name!r} holds no person and camera, as "
                f"0002_c1s1_000451_03.jpg does; add {PERSON}"
            )
        crops.append(crop)
    people = np.array([crop.person for crop in crops])
    if cameras is None:
        cameras = np.array([crop.camera for crop in crops])
    return _FeatureFile(file, embeddings, people, cameras, names)


def _number_ids(
    columns: Mapping[str, Array],
    name: str,
    number: Callable[[Iterable[str], str], dict[str, int]],
) -> tuple[dict[str, NDArray[np.int64]], Mapping[str, int]]:
    """Return the ids of a column of several files, and the ids of those that have names.

    Args:
        columns: the column of each file, by the name of the file.
        name: name of the column, for messages.
        number: function that returns an id for each text.
    """
    if all(_are_integers(values) for values in columns.values()):
        return {file: values.astype(np.int64) for file, values in columns.items()}, NO_NAMES
    texts = {file: _texts(values, name, file) for file, values in columns.items()}
    ids = number({text for column in texts.values() for text in column}, " and ".join(columns))
    numbered = {
        file: np.array([ids[text] for text in column], np.int64) for file, column in texts.items()
    }
    return numbered, nontrivial_names(ids)


def _are_integers(values: Array) -> bool:
    """Return whether a column holds numbers that an int64 holds exactly."""
    if values.dtype.kind == "f":  # a column with empty cells, or from MATLAB
        return bool(
            (
                (np.trunc(values) == values)
                & (np.abs(values) < EXACT_INTEGER_LIMIT[_float_bits(values)])
            ).all()
        )
    return values.dtype.kind == "i" or (
        values.dtype.kind == "u" and not (values > np.iinfo(np.int64).max).any()
    )


def _float_bits(values: Array) -> int:
    """Return the number of bits of the floats of a column; 64 where it holds none."""
    return min(64, 8 * values.dtype.itemsize) if values.dtype.kind == "f" else 64


def _texts(values: Array, name: str, file: str) -> list[str]:
    """Return each id as text.

    Raises:
        UserError: an id is missing, or a value is no id.
    """
    known: dict[object, str] = {}
    texts = []
    bits = _float_bits(values)
    for row, value in enumerate(values.tolist(), start=1):
        if (
            not isinstance(value, Hashable) or value not in known
        ):  # `parse_id` refuses lists and other objects
            try:
                text = parse_id(value, bits)
            except ValueError as error:
                raise UserError(f"{file}, row {row}: {name} is {error}") from None
            if text is None:
                raise UserError(
                    f"{file}, row {row}: {name} is {value!r}, which is missing; "
                    "expected one for each image"
                )
            known[value] = text
        texts.append(known[value])
    return texts


def _known_cameras(cameras: Array) -> Array | None:
    """Return the cameras; None where a camera is unknown."""
    if cameras.dtype.kind == "f":
        return None if np.isnan(cameras).any() else cameras
    if cameras.dtype.kind in "UO":
        return (
            None
            if any(text is None or text in MISSING_VALUES for text in cameras.tolist())
            else cameras
        )
    return cameras


def _read_npz(path: Path, file: str) -> dict[str, Array]:
    """Return the arrays of `COLUMNS` that the file holds, by name.

    Raises:
        UserError: the file cannot be read, or lacks an array.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f"{file}: is not a complete .npz archive; write it with numpy.savez")
    columns: dict[str, Array] = {}
    name = "the archive"
    try:
        with np.load(path, allow_pickle=False) as archive:
            _check_names(archive.files, file)
            for name in COLUMNS:
                if name in archive.files:
                    columns[name] = archive[name]
    except _BROKEN_ARCHIVE as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file}: {name} cannot be read ({reason}); expected plain numbers, or text for {PATH}"
        ) from None
    return columns


def _read_parquet(path: Path, file: str) -> dict[str, Array]:
    """Return the columns of `COLUMNS` that the file holds, by name.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    try:
        with papq.ParquetFile(path) as parquet:
            names = parquet.schema_arrow.names
            _check_names(names, file)
            table = parquet.read(columns=[name for name in COLUMNS if name in names])
        columns = {name: table[name].to_numpy() for name in (PERSON, CAMERA) if name in names}
        if PATH in names:
            texts = table[PATH].cast(pa.string())
            columns[PATH] = np.array([text or "" for text in texts.to_pylist()], np.str_)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read ({reason}); write it again") from None
    return {EMBEDDING: _list_rows(table[EMBEDDING], file), **columns}


def _list_rows(column: pa.ChunkedArray, file: str) -> Array:
    """Return a column of lists of equal length as (N, D).

    Raises:
        UserError: the column holds something else.
    """
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(column.type) for is_kind in lists):
        raise UserError(f"{file}: {EMBEDDING} is {column.type}, expected lists of numbers")
    widths: list[int] = pc.list_value_length(column).fill_null(0).unique().to_pylist()
    if len(widths) > 1:
        raise UserError(
            f"{file}: {EMBEDDING} has rows of different lengths, {widths[0]} and {widths[1]}; "
            "expected the same number of values in each"
        )
    if not widths:
        return np.empty((0, 0), np.float32)
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(values).reshape(len(column), widths[0])


def _check_names(names: Collection[str], file: str) -> None:
    """Check that a file has features, and person ids or file names.

    Raises:
        UserError: a column is missing.
    """
    found = (
        f"found {', '.join(map(repr, names)) or 'nothing'}; expected {EMBEDDING}, {PERSON} "
        f"or {PATH}, and where known {CAMERA}"
    )
    if EMBEDDING not in names:
        raise UserError(f"{file}: has no {EMBEDDING}; {found}")
    if PERSON not in names and PATH not in names:
        raise UserError(
            f"{file}: has neither {PERSON} nor {PATH}, so its people are unknown; {found}"
        )


def _names(values: Array, file: str) -> tuple[str, ...]:
    """Return the file names.

    Raises:
        UserError: the column holds no text.
    """
    if values.dtype.kind != "U":
        raise UserError(f"{file}: {PATH} is {values.dtype}, expected text")
    return tuple(values.tolist())
