"""Person re-identification and multi-task image models on a Ray cluster.

The names below are loaded when they are first used, so that `import reidray` is quick:

    >>> import reidray
    >>> model = reidray.load_model("RUN/model")  # doctest: +SKIP
    >>> embeddings = reidray.embed(model, ["a.jpg", "b.jpg"])  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reidray.config import TrainMultitaskConfig, TrainReidConfig
    from reidray.data.layouts import read_manifest
    from reidray.data.manifest import Manifest
    from reidray.errors import UserError
    from reidray.inference.in_memory import embed
    from reidray.metrics.ranking import evaluate
    from reidray.models.directory import load_model
    from reidray.retrieval.exact_search import top_k
    from reidray.training.runs.run_directory import TrainingRun
    from reidray.training.train import train

    __version__: str

__all__ = [
    "Manifest",
    "TrainMultitaskConfig",
    "TrainReidConfig",
    "TrainingRun",
    "UserError",
    "__version__",
    "embed",
    "evaluate",
    "load_model",
    "read_manifest",
    "top_k",
    "train",
]

_HOMES = {
    "Manifest": "reidray.data.manifest",
    "TrainMultitaskConfig": "reidray.config",
    "TrainReidConfig": "reidray.config",
    "TrainingRun": "reidray.training.runs.run_directory",
    "UserError": "reidray.errors",
    "embed": "reidray.inference.in_memory",
    "evaluate": "reidray.metrics.ranking",
    "load_model": "reidray.models.directory",
    "read_manifest": "reidray.data.layouts",
    "top_k": "reidray.retrieval.exact_search",
    "train": "reidray.training.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("reidray")
    if name not in _HOMES:
        raise AttributeError(f"module 'reidray' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
