"""Files of features that any network made: `.npz` or Parquet, one row for each image."""

import zipfile
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
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

# What NumPy and zipfile make of broken bytes; an array may be said to be larger than any memory.
_BROKEN_ARCHIVE = (
    *(OSError, ValueError, EOFError, RuntimeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error),
)

EMBEDDING, PERSON, CAMERA, PATH = COLUMNS = ("embedding", "person", "camera", "path")


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What a network says of some images, and who is on them.

    Attributes:
        embeddings: (N, D) float32, float16 or float64.
        labels: of the N images.
        uncertainty: (N,) float32, of the predicted attributes; None where not known.
    """

    embeddings: Array
    labels: ImageLabels
    uncertainty: Array | None = None


@dataclass(frozen=True)
class FeatureSets:
    """The features of several files, which number people and cameras alike.

    Attributes:
        sets: one for each file.
        person_ids: the numbers of people who have names.
        camera_ids: likewise of cameras.
    """

    sets: tuple[ImageFeatures, ...]
    person_ids: Mapping[str, int]
    camera_ids: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _FeatureFile:
    """The columns of a file as it has them.

    Attributes:
        file: its name.
        embeddings: (N, D).
        people: N numbers or texts.
        cameras: likewise; None where not every one is known.
        names: N file names, where they are known.
    """

    file: str
    embeddings: Array
    people: Array
    cameras: Array | None
    names: tuple[str, ...] | None


def read_features(*files: str) -> FeatureSets:
    """The features in some files.

    Each holds `embedding` (N, D) and, one for each row of it, `person` and where known `camera`,
    numbers or names, and `path`, file names. Without `person`, these tell person and camera. In
    Parquet, `embedding` is a list column. Nothing in a file is unpickled.

    Args:
        files: their names, which end in .npz or .parquet.

    Raises:
        UserError: a file cannot be read or does not hold this.
    """
    found = [_read(file) for file in files]
    people, person_ids = _number([each.people for each in found], files, PERSON, number_person_ids)
    known = [each.cameras for each in found if each.cameras is not None]
    seen, camera_ids = _number(
        known, [each.file for each in found if each.cameras is not None], CAMERA, number_camera_ids
    )
    cameras = iter(seen)
    sets = tuple(
        ImageFeatures(
            each.embeddings,
            ImageLabels(who, None if each.cameras is None else next(cameras), each.names),
        )
        for each, who in zip(found, people, strict=True)
    )
    return FeatureSets(sets, person_ids, camera_ids)


def _read(file: str) -> _FeatureFile:
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
    cameras = _known(columns[CAMERA]) if CAMERA in columns else None
    if PERSON in columns:
        return _FeatureFile(file, embeddings, columns[PERSON], cameras, names)
    told = []
    for name in names or ():
        found = parse_crop_name(name)
        if found is None:
            raise UserError(
                f"{file}: {PATH} {name!r} tells no person and camera as 0002_c1s1_000451_03.jpg "
                f"does; add {PERSON}"
            )
        told.append(found)
    people = np.array([crop.person for crop in told])
    if cameras is None:
        cameras = np.array([crop.camera for crop in told])
    return _FeatureFile(file, embeddings, people, cameras, names)


def _number(
    columns: Sequence[Array],
    files: Sequence[str],
    name: str,
    number: Callable[[Iterable[str], str], dict[str, int]],
) -> tuple[list[NDArray[np.int64]], Mapping[str, int]]:
    """A column of each file as numbers, and those of names; whole numbers stay what they are."""
    if all(_are_whole(values) for values in columns):
        return [values.astype(np.int64) for values in columns], NO_NAMES
    texts = [_texts(values, name, file) for values, file in zip(columns, files, strict=True)]
    numbers = number({text for column in texts for text in column}, " and ".join(files))
    found = [np.array([numbers[text] for text in column], np.int64) for column in texts]
    return found, nontrivial_names(numbers)


def _are_whole(values: Array) -> bool:
    """Tell whether a column holds numbers that an int64 holds exactly."""
    if values.dtype.kind == "f":  # of a column that had empty cells, or of MATLAB
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
    """Return how many bits the floats of a column have, and 64 where it holds none."""
    return min(64, 8 * values.dtype.itemsize) if values.dtype.kind == "f" else 64


def _texts(values: Array, name: str, file: str) -> list[str]:
    """Each id as text.

    Raises:
        UserError: one is missing, or no id.
    """
    known: dict[object, str] = {}
    texts = []
    bits = _float_bits(values)
    for row, value in enumerate(values.tolist(), start=1):
        if not isinstance(value, Hashable) or value not in known:  # lists and the like are no ids
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


def _known(cameras: Array) -> Array | None:
    """Cameras, if every one is known."""
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
    """The arrays that matter, by name."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"{file}: is no .npz archive, or is not whole; write it with numpy.savez")
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
    """The columns that matter, by name."""
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
    """A column of lists of one length as (N, D)."""
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
    """Refuse a file without features, or without anything that tells persons."""
    found = (
        f"found {', '.join(map(repr, names)) or 'nothing'}; expected {EMBEDDING}, {PERSON} "
        f"or {PATH}, and where known {CAMERA}"
    )
    if EMBEDDING not in names:
        raise UserError(f"{file}: has no {EMBEDDING}; {found}")
    if PERSON not in names and PATH not in names:
        raise UserError(f"{file}: has neither {PERSON} nor {PATH} to tell who is on it; {found}")


def _names(values: Array, file: str) -> tuple[str, ...]:
    if values.dtype.kind != "U":
        raise UserError(f"{file}: {PATH} is {values.dtype}, expected text")
    return tuple(values.tolist())
