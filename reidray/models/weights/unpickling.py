"""Turn a file of `torch.save` into safetensors. This is the program of a process of its own.

No module imports it: `pickle_process` starts it. Its arguments are two descriptors, of the file to
read and of the file to write. Its last line on stdout is one JSON object, with the key `error`
where it refuses the file.

`torch.load(weights_only=True)` makes tensors and plain containers, and calls nothing that a file
names. The files of most projects also hold metrics as numbers of NumPy, and the settings of a
command line. `Unneeded` takes their place, so that neither NumPy nor argparse is called either.
"""

import json
import os
import re
import resource
import sys
from collections.abc import Iterator
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

UNNEEDED_NAMES = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
)

NOT_WEIGHTS = re.compile(r"optim|scheduler|scaler|loss|criterion|callbacks|loops|hyper_parameters")
"""Words in the keys of what a training saves beside its weights."""

MAX_LEVELS = 8
"""Levels of dictionaries in which weights are looked for."""

ROOM = 2 * 1024**3
"""Bytes that the process may use beyond multiples of the size of the file."""

READ_SECONDS = 120
BYTES_A_SECOND = 10 * 1024**2

FORBIDDEN = re.compile(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL) (\S+)")


class RefusedError(Exception):
    """Signal that a file is refused, and the reason."""


class Unneeded:
    """Take the place of a value that is no weight. It ignores everything that it is given."""

    def __init__(self, *_: object) -> None:
        pass

    def __new__(cls, *_: object) -> "Unneeded":
        """Return a new value."""
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


def main() -> None:
    """Convert the file of the first descriptor into the file of the second."""
    source, target = map(int, sys.argv[1:])
    limit_process(os.fstat(source).st_size)
    print(json.dumps(answer(source, target)))


def answer(source: int, target: int) -> dict[str, str]:
    """Convert a file of `torch.save`; return the reason as `error` where it is refused.

    Args:
        source: descriptor of the file.
        target: descriptor of the file of safetensors to write.
    """
    try:
        data = convert(source)
        with os.fdopen(target, "wb") as file:
            file.write(data)
    except RefusedError as error:
        return {"error": str(error)}
    except Exception as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        if isinstance(error, MemoryError) or "alloc_cpu" in reason:
            return {"error": "it needs more memory than a file of its size should"}
        return {"error": f"it is damaged ({type(error).__name__}: {reason}): copy it again"}
    return {}


def limit_process(size: int) -> None:
    """Limit the memory and the time of this process to what a file of some size needs."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - this program imports little
        used = int(file.read().split()[0]) * resource.getpagesize()
    memory, seconds = used + 8 * size + ROOM, READ_SECONDS + size // BYTES_A_SECOND
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: 4 * size + ROOM,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (soft, soft))


def convert(source: int) -> bytes:
    """Return the tensors of a file of `torch.save` as safetensors.

    Raises:
        RefusedError: the file names code, or holds no tensors, or more than it has bytes for.
    """
    size = os.fstat(source).st_size
    allowed: list[Any] = [(Unneeded, name) for name in UNNEEDED_NAMES]
    with os.fdopen(source, "rb") as file, torch.serialization.safe_globals(allowed):
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise RefusedError(explain(str(error))) from error
    found: dict[str, Tensor] = {}
    total = 0
    for name, tensor in find_tensors(loaded):
        total += tensor.numel() * tensor.element_size()
        if total > 4 * size:
            raise RefusedError(f"it holds more values than its {size:,} bytes can")
        found.setdefault(name, tensor.detach().clone(memory_format=torch.contiguous_format))
    if not found:
        raise RefusedError("it holds no tensors: give the file that holds the weights")
    return save(found)


def explain(message: str) -> str:
    """Return the reason why PyTorch refused a file, from its message."""
    named = FORBIDDEN.search(message)
    if named is None:
        return "it is damaged, or `torch.save` did not write it: copy or download it again"
    if named[1].startswith(("torch.", "torchvision.", "timm.")):
        return f"it holds a whole network ({named[1]}): save its `state_dict()` instead"
    return f"it names code ({named[1]}), which no job runs: save its `state_dict()` alone"


def find_tensors(value: Any, path: str = "", level: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested dictionaries, each with its keys, joined with dots, as its name.

    Tensors without plain values, such as sparse ones, are left out.
    """
    if isinstance(value, Tensor):
        is_plain = value.layout == torch.strided and not (value.is_quantized or value.is_meta)
        if is_plain and not value.is_complex():
            yield path, value
    elif isinstance(value, dict) and level < MAX_LEVELS:
        for key, inner in value.items():
            if not isinstance(key, str):
                continue
            is_beside = level < 2 and isinstance(inner, dict) and NOT_WEIGHTS.search(key)
            if not is_beside:
                yield from find_tensors(inner, f"{path}.{key}" if path else key, level + 1)


if __name__ == "__main__":
    main()
