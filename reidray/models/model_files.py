"""Read the files of a model directory, after a check that none of them is a pickle."""

import json
import posixpath
from hashlib import sha256
from typing import Any

from reidray.errors import UserError
from reidray.storage.input_checks import DESCRIPTION_FILE, WEIGHTS_FILE
from reidray.storage.location import Location
from reidray.storage.object_store import describe_error
from reidray.suggestions import quoted

FORMAT_VERSION = 1
MAX_DESCRIPTION_BYTES = 16 * 1024**2
PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib"})


def read_model_files(folder: Location) -> dict[str, bytes]:
    """Return description and weights, after a check that the folder holds a model and no pickle.

    Raises:
        UserError: the folder is missing, lacks a file, or holds a pickle.
    """
    if not folder.is_dir():
        raise UserError(
            f"model {folder.uri} is not a folder: give a model directory, RUN/model of a training "
            "run"
        )
    found = folder.list_files()
    for path in found:
        if posixpath.splitext(path)[1] in PICKLE_SUFFIXES:
            raise UserError(
                f"model {folder.uri} holds {path}, which may be a pickle: remove it, "
                "none is ever read"
            )
    for name in (DESCRIPTION_FILE, WEIGHTS_FILE):
        if name not in found:
            raise UserError(
                f"model {folder.uri} has no {name}: give a model directory, RUN/model of a "
                "training run"
            )
    try:
        description = folder.read_bytes(DESCRIPTION_FILE, MAX_DESCRIPTION_BYTES)
        return {DESCRIPTION_FILE: description, WEIGHTS_FILE: folder.read_bytes(WEIGHTS_FILE)}
    except OSError as error:
        raise UserError(
            f"model {folder.uri} cannot be read ({describe_error(error)}): copy it again"
        ) from error


def read_description(folder: Location, data: bytes) -> dict[str, Any]:
    """Return the description, after a check of its version.

    Raises:
        UserError: the description is no JSON, or of another version.
    """
    try:
        description = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"model {folder.join(DESCRIPTION_FILE).uri} is not JSON ({error}): copy it again"
        ) from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT_VERSION:
        raise UserError(
            f"model {folder.uri} has format {quoted(found)}, this reidray reads {FORMAT_VERSION}: "
            "use the reidray it was trained with, or train it again"
        )
    return dict(description)


def check_weights_hash(folder: Location, weights: bytes, expected: object) -> None:
    """Check that the weights are those that the description was written with.

    Raises:
        UserError: they are not.
    """
    if sha256(weights).hexdigest() != expected:
        raise UserError(
            f"model {folder.join(WEIGHTS_FILE).uri} is damaged: it is not the file that "
            f"{DESCRIPTION_FILE} was written with: copy both again"
        )
