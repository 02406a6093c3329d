"""Check the files of a checkpoint, and choose the checkpoint that a run resumes from.

This module imports neither PyTorch nor Ray, so that a run is checked before they are loaded.
"""

import json
import logging
import shutil
from contextlib import suppress
from datetime import datetime
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from safetensors import SafetensorError, deserialize

from reidray.errors import UserError
from reidray.storage.location import Location

log = logging.getLogger("reidray")

NETWORK_FILE = "network.safetensors"
BEST_FILE = "best.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
FILES = (NETWORK_FILE, BEST_FILE, OPTIMIZER_FILE, STATE_FILE)
AVERAGE_FILE = "average.safetensors"
"""Moving average of the weights, in the checkpoints of a training that keeps one."""

SUMS_FILE = "SHA256SUMS"
"""File of checksums in the format of `sha256sum`: a digest and a name in each line."""

FORMAT = 2
"""Version of the format. Checkpoints of version 1 do not name it and have no checksums."""

CHECKPOINTS = "checkpoints"
SNAPSHOT_FILE = "checkpoint_manager_snapshot.json"
"""List of the checkpoints of a run, which Ray Train writes and reads to resume."""


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of each file of a checkpoint into the checkpoint."""
    names = [*FILES, *([AVERAGE_FILE] if (folder / AVERAGE_FILE).is_file() else [])]
    lines = [f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS_FILE).write_text("".join(lines))


def check_checkpoint(folder: Location) -> None:
    """Check that a checkpoint is as it was written.

    The files of a checkpoint without checksums, of format 1, must exist and be JSON and
    safetensors.

    Raises:
        UserError: a file is missing, or damaged; the message names it.
        OSError: the disk or the object store failed.
    """
    has_sums = folder.join(SUMS_FILE).is_file()
    expected = _read_sums(folder) if has_sums else {}
    names = [*FILES, *([AVERAGE_FILE] if AVERAGE_FILE in expected else [])]
    for name in names:
        if not folder.join(name).is_file():
            raise UserError(f"checkpoint file {folder.join(name).uri} is missing")
    if has_sums:
        for name in names:
            if folder.read_with(name, _digest) != expected.get(name):
                raise _damaged(folder, name, f"its SHA-256 is not the one in {SUMS_FILE}")
        return
    if read_state(folder).get("format", 1) >= FORMAT:
        raise UserError(f"checkpoint file {folder.join(SUMS_FILE).uri} is missing")
    for name in (NETWORK_FILE, BEST_FILE, OPTIMIZER_FILE):
        try:
            deserialize(folder.read_bytes(name))  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise _damaged(folder, name, str(error)) from error


def read_state(folder: Location) -> dict[str, Any]:
    """Return the contents of a checkpoint's `state.json`.

    Raises:
        UserError: the file is missing, or is not a JSON object with its keys.
    """
    try:
        state = json.loads(folder.read_bytes(STATE_FILE))
    except FileNotFoundError:
        raise UserError(f"checkpoint file {folder.join(STATE_FILE).uri} is missing") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, STATE_FILE, f"not JSON: {error}") from error
    parts = [state.get(key) for key in ("standing", "settings")] if isinstance(state, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise _damaged(folder, STATE_FILE, "without standing or settings")
    return cast("dict[str, Any]", state)


def _read_sums(folder: Location) -> dict[str, str]:
    text = folder.read_bytes(SUMS_FILE).decode("ascii", errors="replace")
    pairs = [line.split("  ", 1) for line in text.splitlines() if "  " in line]
    return {name: digest for digest, name in pairs}


def _digest(file: pa.NativeFile) -> str:
    return file_digest(cast("Any", file), "sha256").hexdigest()


def _damaged(folder: Location, name: str, reason: str) -> UserError:
    return UserError(f"checkpoint file {folder.join(name).uri} is damaged ({reason})")


def repair_checkpoint_list(run: Location) -> None:
    """Ensure that Ray Train resumes from the newest whole checkpoint of a run.

    Ray Train keeps a list of checkpoints, resumes from the newest and deletes the oldest. If the
    newest checkpoint is damaged, the function writes the list again with the checkpoint before it.
    If the list itself is damaged, it writes the list with the newest whole checkpoint beside it.
    If the run was killed while it wrote its first checkpoint, before its list, it removes what is
    there of the checkpoint. It logs each damage.

    Args:
        run: run directory, with or without checkpoints.

    Raises:
        UserError: no checkpoint is whole, or the list names another folder.
    """
    folder = run.join(CHECKPOINTS)
    present = _folders_in(folder)
    listed = _read_list(folder)
    if listed is None and not present:
        log.info("%s has no checkpoint yet: training begins at epoch 1", run.uri)
        return
    if listed is None and _is_unfinished(folder, present):
        log.warning(
            "%s was not written to its end: training begins at epoch 1", folder.join(present[0]).uri
        )
        _remove(folder.join(present[0]))
        return
    known = present if listed is None else listed
    newest = _newest_whole(folder, known)
    if listed is None or newest != listed[-1] or not set(listed) <= set(present):
        folder.write_bytes(SNAPSHOT_FILE, json.dumps(_list_of(newest)).encode())


def keep_checkpoint(run: Location, checkpoint: Path) -> Location:
    """Copy a checkpoint into a run, list it as the newest one, and keep only the one before it.

    The list names whole checkpoints only, so that a run which is killed resumes from one.

    Args:
        run: run directory.
        checkpoint: folder of a whole checkpoint.

    Returns:
        The checkpoint in the run.

    Raises:
        OSError: the disk or the object store failed.
    """
    folder = run.join(CHECKPOINTS)
    listed = _read_list(folder) or []
    name = f"checkpoint_{datetime.now():%Y-%m-%d_%H-%M-%S.%f}"  # as Ray Train names it
    try:
        for file in sorted(checkpoint.iterdir()):
            folder.join(name).write_bytes(file.name, file.read_bytes())
    except BaseException:
        _remove(folder.join(name))  # a full disk has room again to resume
        raise
    kept = [*listed[-1:], name]
    folder.write_bytes(SNAPSHOT_FILE, json.dumps(_list_of(*kept)).encode())
    for old in set(_folders_in(folder)) - set(kept):
        _remove(folder.join(old))
    return folder.join(name)


def has_checkpoints(run: Location) -> bool:
    """Return whether a run directory holds a checkpoint."""
    return bool(_folders_in(run.join(CHECKPOINTS)))


def newest_checkpoint(run: Location) -> Location | None:
    """Return the checkpoint from which a run with a sound list resumes; None without one."""
    folder = run.join(CHECKPOINTS)
    names = _read_list(folder)
    return folder.join(names[-1]) if names else None


def _folders_in(folder: Location) -> list[str]:
    """Return the names of the folders in a folder, without links; checkpoints sort by age."""
    children = folder.list_children() if folder.is_dir() else []
    names = [name.rstrip("/") for name in children if name.endswith("/")]
    return [name for name in names if not Path(folder.path, name).is_symlink()]


def _is_unfinished(folder: Location, present: list[str]) -> bool:
    """Return whether a run was killed while it wrote its first checkpoint, before its list."""
    if len(present) != 1 or folder.join(SNAPSHOT_FILE).is_file():
        return False
    try:
        check_checkpoint(folder.join(present[0]))
    except UserError:
        return True
    return False


def _newest_whole(folder: Location, names: list[str]) -> str:
    """Return the name of the newest whole checkpoint, and log the damage of later ones."""
    errors: list[UserError] = []
    for name in reversed(names):
        try:
            check_checkpoint(folder.join(name))
        except UserError as error:
            errors.append(error)
            continue
        for each in errors:
            log.warning("%s: going on from the checkpoint before it, %s", each, name)
        return name
    raise UserError(f"{errors[0]}, and no checkpoint before it is whole: train again")


def _read_list(folder: Location) -> list[str] | None:
    """Return the names in Ray Train's list of checkpoints, the newest last.

    Returns:
        None without a list, or with a list that Ray Train cannot have written.

    Raises:
        UserError: the list names something that is no folder beside it; Ray Train would delete it.
    """
    snapshot = folder.join(SNAPSHOT_FILE)
    if not snapshot.is_file():
        return None
    named: list[object] = []

    def note(entry: dict[str, object]) -> dict[str, object]:
        if "checkpoint_dir_name" in entry:
            named.append(entry["checkpoint_dir_name"])
        return entry

    try:
        content = json.loads(folder.read_bytes(SNAPSHOT_FILE), object_hook=note)
        names = [str(entry["checkpoint_dir_name"]) for entry in content["checkpoint_results"]]
        newest = str(content["latest_checkpoint_result"]["checkpoint_dir_name"])
        sound = (
            content.keys() >= _list_of("").keys()
            and newest in names
            and len(content["checkpoint_report_indices"]) == len(names)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    for name in named:
        if not _is_beside(folder, name):
            raise UserError(
                f"{snapshot.uri} names a checkpoint {name!r}, which is no folder beside it: go on "
                "with a run that is whole and your own, or train again"
            )
    if not sound:
        log.warning("%s is damaged: looking for checkpoints beside it", snapshot.uri)
        return None
    return [*(name for name in names if name != newest), newest]


def _remove(checkpoint: Location) -> None:
    """Remove a checkpoint, as far as its files can be removed."""
    if not checkpoint.is_remote:
        shutil.rmtree(checkpoint.path, ignore_errors=True)
        return
    with suppress(OSError):
        for file in checkpoint.list_files():
            checkpoint.delete_file(file)


def _is_beside(folder: Location, name: object) -> bool:
    """Return whether a name is that of a present or past folder in `folder`, and no link."""
    plain = isinstance(name, str) and name not in ("", ".", "..") and "/" not in name
    return plain and not Path(folder.path, str(name)).is_symlink()


def _list_of(*names: str) -> dict[str, Any]:
    """Return a list of checkpoints, as Ray Train writes it, the newest last."""
    entries = [{"version": 0, "checkpoint_dir_name": name, "metrics": {}} for name in names]
    return {
        "ray_version": _ray_version(),
        "checkpoint_results": entries,
        "checkpoint_report_indices": list(range(len(entries))),
        "latest_checkpoint_result": entries[-1],
        "pending_training_results": [],
        "pending_validation_specs": [],
        "current_report_index": len(entries),
        "validated_checkpoint_dir_names": [],
        "timed_out_validation_checkpoint_dir_names": [],
        "failed_validation_checkpoint_dir_names": [],
    }


def _ray_version() -> str:
    """Return the version of Ray; empty on a machine without it."""
    try:
        return version("ray")
    except PackageNotFoundError:
        return ""
