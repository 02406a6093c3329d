"""Convert pickles to safetensors in a short-lived process, so that no job unpickles."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("unpickling.py")

PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
"""Variables of the environment that the process gets; others may hold secrets."""

MAX_SECONDS = 180
BYTES_A_SECOND = 5 * 1024**2


class ConversionError(ValueError):
    """Signal that a file cannot be converted, and the reason."""


def convert_pickle(data: bytes) -> bytes:
    """Return the tensors of a file of `torch.save` as safetensors.

    Nothing that the file names is called, and nothing is left on a disk. The process gets no other
    variables of the environment than `PASSED_VARIABLES`, and its memory and time are limited.

    Args:
        data: contents of the file.

    Raises:
        ConversionError: the file is damaged, names code or holds no tensors, or the process died.
    """
    source, target = (os.memfd_create(f"reidray-{name}") for name in ("pickle", "safetensors"))
    try:
        with os.fdopen(os.dup(source), "wb") as file:
            file.write(data)
        os.lseek(source, 0, os.SEEK_SET)
        answer = _run(source, target, MAX_SECONDS + len(data) // BYTES_A_SECOND)
        if "error" in answer:
            raise ConversionError(answer["error"])
        with os.fdopen(os.dup(target), "rb") as file:
            file.seek(0)
            return file.read()
    finally:
        os.close(source)
        os.close(target)


def _run(source: int, target: int, seconds: float) -> dict[str, Any]:
    """Run the program on two descriptors, and return its answer.

    Raises:
        ConversionError: the process died, or did not end in time.
    """
    environment = {key: os.environ[key] for key in PASSED_VARIABLES if key in os.environ}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", PROGRAM, str(source), str(target)],
            pass_fds=[source, target],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"it was not read within {seconds:.0f} s") from error
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
    else:
        ended = f"exit status {done.returncode}"
    raise ConversionError(f"the process that reads it died ({ended}): it may need more memory")
