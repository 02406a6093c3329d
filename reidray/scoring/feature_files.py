"""Files of features that any network made: `.npz` or Parquet, one row for each image."""

import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as papq
from numpy.typing import NDArray

from reidray.data.layouts.names import person_and_camera_of
from reidray.errors import UserError
from reidray.scoring.evaluation import ImageLabels

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
        doubt: (N,) float32, how unsure the network is of their attributes; None where not known.
    """

    embeddings: Array
    labels: ImageLabels
    doubt: Array | None = None


def read_features(file: str) -> ImageFeatures:
    """The features in a file.

    It holds `embedding` (N, D) and, one for each row of it, `person` and where known `camera`,
    whole numbers, and `path`, file names. Without `person`, the names tell person and camera. In
    Parquet, `embedding` is a list column. Nothing in the file is unpickled.

    Args:
        file: its name, which ends in .npz or .parquet.

    Raises:
        UserError: the file cannot be read or does not hold this.
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
    return ImageFeatures(embeddings, _labels(columns, file))


def _labels(columns: dict[str, Array], file: str) -> ImageLabels:
    """Persons, cameras and names; where persons are not told, from the names."""
    names = _names(columns[PATH], file) if PATH in columns else None
    cameras = _cameras(columns[CAMERA], file) if CAMERA in columns else None
    if PERSON in columns:
        return ImageLabels(_whole_numbers(columns[PERSON], PERSON, file), cameras, names)
    told = []
    for name in names or ():
        found = person_and_camera_of(name)
        if found is None:
            raise UserError(
                f"{file}: {PATH} {name!r} tells no person and camera as 0002_c1s1_000451_03.jpg "
                f"does; add {PERSON}"
            )
        told.append(found)
    people, seen_by = np.array(told, np.int64).reshape(-1, 2).T
    return ImageLabels(people, seen_by if cameras is None else cameras, names)


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


def _whole_numbers(values: Array, name: str, file: str) -> NDArray[np.int64]:
    """Values as int64; a column that had empty cells may hold whole numbers as floats."""
    is_exact = values.dtype.kind == "f" and (np.abs(values) < 2**53).all()
    if is_exact and (values % 1 == 0).all():
        return values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise UserError(
            f"{file}: {name} is {values.dtype} and not all whole numbers; expected one per image"
        )
    return values.astype(np.int64)


def _cameras(values: Array, file: str) -> NDArray[np.int64] | None:
    """Cameras, if every one is known."""
    if values.dtype.kind == "f" and np.isnan(values).any():
        return None
    return _whole_numbers(values, CAMERA, file)


def _names(values: Array, file: str) -> tuple[str, ...]:
    if values.dtype.kind != "U":
        raise UserError(f"{file}: {PATH} is {values.dtype}, expected text")
    return tuple(values.tolist())
