"""Find which prefix of a file's names stands for which prefix of a network's names.

Files wrap the weights of a backbone in many ways: `state_dict.module.conv1.weight`,
`model.backbone.conv1.weight`, `teacher.backbone.patch_embed.proj.weight`, `base.cls_token`. A
network of ours holds the same backbone as `backbone.body`. The pair of prefixes under which most
weights have the same names and shapes tells one from the other.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Size

MAX_PREFIX_LEVELS = 5
"""Levels of names that may be a prefix."""

MIN_SHARE = 0.05
"""Share of all names that must begin with a prefix."""

PREFERRED = ("state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model")
"""First parts of names, the preferred one first, where a file holds a network more than once."""


@dataclass(frozen=True)
class Alignment:
    """Pair the names of a file with those of a network.

    Attributes:
        file_prefix: prefix of the file's names, empty or with a final dot.
        network_prefix: the prefix that stands for it in the network's names.
    """

    file_prefix: str = ""
    network_prefix: str = ""


def align_names(file: Mapping[str, Size], network: Mapping[str, Size]) -> Alignment:
    """Return the pair of prefixes under which the most values have equal names and shapes.

    Where several pairs have as many, that of the most equal names is taken, then that of the
    preferred part of the file, then that of the shortest prefixes.

    Args:
        file: shapes of the file's weights by name.
        network: shapes of the network's weights by name.
    """
    best, most = Alignment(), (0, 0)
    views = {prefix: _under(network, prefix) for prefix in _find_prefixes(network)}
    for file_prefix in sorted(_find_prefixes(file), key=_preference):
        shapes = _under(file, file_prefix)
        for network_prefix, view in views.items():
            shared = shapes.keys() & view.keys()
            values = sum(view[name].numel() for name in shared if view[name] == shapes[name])
            if (values, len(shared)) > most:
                best, most = Alignment(file_prefix, network_prefix), (values, len(shared))
    return best


def _find_prefixes(names: Collection[str]) -> list[str]:
    """Return the prefixes that many of the names have, from the shortest to the longest."""
    counts = Counter[str]()
    for name in names:
        parts = name.split(".")[:-1][:MAX_PREFIX_LEVELS]
        counts.update(".".join(parts[: end + 1]) + "." for end in range(len(parts)))
    frequent = [each for each, count in counts.items() if count >= MIN_SHARE * len(names)]
    return ["", *sorted(frequent, key=lambda prefix: (prefix.count("."), prefix))]


def _under(shapes: Mapping[str, Size], prefix: str) -> dict[str, Size]:
    """Return the shapes whose names begin with a prefix, by the rest of the names."""
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }


def _preference(prefix: str) -> tuple[int, int]:
    first = prefix.partition(".")[0]
    rank = PREFERRED.index(first) if first in PREFERRED else len(PREFERRED)
    return (rank, prefix.count(".")) if prefix else (-1, 0)
