"""Keep the working files of a job beside its output, where all its processes reach them."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from reidray.storage.bucket_runs import WORK_FOLDER
from reidray.storage.location import Location
from reidray.storage.locks.exclusive_files import FOLDER_MODE, list_entries

_CONCURRENT_DELETIONS = 16


@contextmanager
def working_folder(output: Location, staging: Path, *, in_bucket: bool) -> Iterator[Location]:
    """Yield an empty folder for working files, which is removed at the end of the block.

    The folder of a killed job is removed with its staging folder, or by the next job.

    Args:
        output: the output of the job, whose lock it holds.
        staging: the local folder that becomes the output.
        in_bucket: whether other machines need the files of an output in a bucket.
    """
    if in_bucket and output.is_remote:
        folder = output.join(WORK_FOLDER)
        _delete_objects(output)  # those of a job that was killed
        try:
            yield folder.join(uuid4().hex)
        finally:
            _delete_objects(output)
        return
    local = staging / f".{WORK_FOLDER}"
    local.mkdir(mode=FOLDER_MODE)
    try:
        yield Location(str(local))
    finally:
        shutil.rmtree(local)


def _delete_objects(output: Location) -> None:
    paths = [entry.path for entry in list_entries(output, WORK_FOLDER)]
    with ThreadPoolExecutor(_CONCURRENT_DELETIONS) as threads:
        list(threads.map(output.delete_file, paths))
