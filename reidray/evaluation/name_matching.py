"""Pair the names of one file with those of another, where the two write them differently."""

import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from reidray.data.images.image_formats import IMAGE_SUFFIXES
from reidray.errors import UserError


@dataclass(frozen=True)
class AmbiguousNames:
    """Hold two names of one side that could both be one name of the other side.

    Attributes:
        first: one of the two names.
        second: the other of the two names.
        name: the name of the other side.
    """

    first: str
    second: str
    name: str


@dataclass(frozen=True)
class NamePairs:
    """Hold the names of one side that the other side has too.

    Attributes:
        known_as: each name to the name on the other side.
        differences: number of names that differ, by the difference, such as `folders`.
        ambiguous: the first names that can be paired in two ways; None where there are none.
    """

    known_as: Mapping[str, str]
    differences: Mapping[str, int]
    ambiguous: AmbiguousNames | None = None

    def check(self, side: str, other: str) -> None:
        """Check that no name can be paired in two ways.

        Args:
            side: origin of the names.
            other: origin of the names that they are paired with.

        Raises:
            UserError: a name can be paired in two ways.
        """
        if self.ambiguous is not None:
            raise UserError(
                f"{side} and {other}: {self.ambiguous.first!r} and {self.ambiguous.second!r} "
                f"could both be {self.ambiguous.name!r}; write names alike in both"
            )


def pair_names(names: Collection[str], known: Collection[str]) -> NamePairs:
    """Pair each name with the one of `known` that means the same file.

    Two names are a pair if they are equal, or if one ends with the other (`gallery/g0.jpg` and
    `g0.jpg`, with slashes of either kind). If there is no such pair, names that differ in a suffix
    which one side lacks are a pair. If there is none either, so are names that also differ in upper
    and lower case.

    Args:
        names: names of one side.
        known: names of the other side.
    """
    exact = set(known).intersection(names)
    paired = _pair(names, known, exact, str, "folders")
    if not paired.known_as:
        paired = _pair(names, known, exact, _without_suffix, "suffix")
    if not paired.known_as:
        paired = _pair(names, known, exact, _folded, "case or suffix")
    return paired


def nothing_in_common(
    what: str, side: str, names: Iterable[str], other: str, known: Iterable[str]
) -> UserError:
    """Return the error about two sides without a common name, with a name of each."""
    return UserError(
        f"{side} and {other} have no {what} in common: {_example(names)} is in the one, "
        f"{_example(known)} in the other; write names alike in both"
    )


def _pair(
    names: Collection[str],
    known: Collection[str],
    exact: set[str],
    plain: Callable[[str], str],
    difference: str,
) -> NamePairs:
    """Pair names whose plain forms are equal, or of which one ends with the other."""
    left = [name for name in known if name not in exact]
    whole: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for name in left:
        path = plain(_slashed(name))
        whole.setdefault(path, []).append(name)
        for end in _ends(path):
            ends.setdefault(end, []).append(name)
    known_as = {name: name for name in exact}
    found_by: dict[str, str] = {}
    differing: Counter[str] = Counter()
    ambiguous = None
    for name in names:
        if name in exact:
            continue
        path = plain(_slashed(name))
        meant = whole.get(path) or ends.get(path) or []
        for end in _ends(path):
            meant = meant or whole.get(end, [])
        meant = [other for other in meant if _suffixes_agree(name, other)]
        if not meant:
            continue
        if len(meant) > 1:
            ambiguous = ambiguous or AmbiguousNames(meant[0], meant[1], name)
        elif meant[0] in found_by:
            ambiguous = ambiguous or AmbiguousNames(found_by[meant[0]], name, meant[0])
        else:
            found_by[meant[0]] = name
            known_as[name] = meant[0]
            differing[difference] += 1
    return NamePairs(known_as, dict(differing), ambiguous)


def _ends(path: str) -> list[str]:
    """Return `b/c.jpg` and `c.jpg` for `a/b/c.jpg`, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def _slashed(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _without_suffix(path: str) -> str:
    stem, suffix = posixpath.splitext(path)
    return stem if suffix.lower() in IMAGE_SUFFIXES else path


def _suffixes_agree(name: str, other: str) -> bool:
    """Tell whether two names have one suffix, or one of them has none."""
    suffixes = {posixpath.splitext(each)[1].lower() for each in (name, other)}
    return len(suffixes & IMAGE_SUFFIXES) < 2


def _folded(path: str) -> str:
    return _without_suffix(path).casefold()


def _example(names: Iterable[str]) -> str:
    return repr(first) if (first := min(names, default=None)) is not None else "nothing"
