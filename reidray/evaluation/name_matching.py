"""Pair the names of two files that refer to the same images but write the names differently."""

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
    """Hold the pairs of names that refer to the same file on both sides.

    Attributes:
        counterparts: name on the other side of each name that has one.
        differences: number of names that differ, by the difference, such as `folders`.
        ambiguous: the first names that can be paired in two ways; None where there are none.
    """

    counterparts: Mapping[str, str]
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
    """Pair each name with the name of `known` that refers to the same file.

    The function tries three rules, and uses the first that finds a pair:

    1. The names are equal, or one ends with the other: `gallery/g0.jpg` and `g0.jpg`. Slashes and
       backslashes are equal.
    2. One name lacks the suffix of the other.
    3. The names also differ in upper and lower case.

    Args:
        names: names of one side.
        known: names of the other side.
    """
    exact = set(known).intersection(names)
    paired = _pair(names, known, exact, str, "folders")
    if not paired.counterparts:
        paired = _pair(names, known, exact, _without_suffix, "suffix")
    if not paired.counterparts:
        paired = _pair(names, known, exact, _casefolded, "case or suffix")
    return paired


def no_common_name_error(
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
    """Pair names with equal plain forms, and names that end with the other name.

    Args:
        names: names of one side.
        known: names of the other side.
        exact: names that both sides have.
        plain: function that returns the plain form of a path.
        difference: difference between a name and its plain form, such as `suffix`.
    """
    remaining = [name for name in known if name not in exact]
    by_path: dict[str, list[str]] = {}
    by_ending: dict[str, list[str]] = {}
    for name in remaining:
        path = plain(_with_slashes(name))
        by_path.setdefault(path, []).append(name)
        for end in _endings(path):
            by_ending.setdefault(end, []).append(name)
    counterparts = {name: name for name in exact}
    found_by: dict[str, str] = {}
    differing: Counter[str] = Counter()
    ambiguous = None
    for name in names:
        if name in exact:
            continue
        path = plain(_with_slashes(name))
        candidates = by_path.get(path) or by_ending.get(path) or []
        for end in _endings(path):
            candidates = candidates or by_path.get(end, [])
        candidates = [other for other in candidates if _suffixes_agree(name, other)]
        if not candidates:
            continue
        if len(candidates) > 1:
            ambiguous = ambiguous or AmbiguousNames(candidates[0], candidates[1], name)
        elif candidates[0] in found_by:
            ambiguous = ambiguous or AmbiguousNames(found_by[candidates[0]], name, candidates[0])
        else:
            found_by[candidates[0]] = name
            counterparts[name] = candidates[0]
            differing[difference] += 1
    return NamePairs(counterparts, dict(differing), ambiguous)


def _endings(path: str) -> list[str]:
    """Return `b/c.jpg` and `c.jpg` for `a/b/c.jpg`, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def _with_slashes(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _without_suffix(path: str) -> str:
    stem, suffix = posixpath.splitext(path)
    return stem if suffix.lower() in IMAGE_SUFFIXES else path


def _suffixes_agree(name: str, other: str) -> bool:
    """Return whether two names have the same suffix of an image, or at most one has a suffix."""
    suffixes = {posixpath.splitext(each)[1].lower() for each in (name, other)}
    return len(suffixes & IMAGE_SUFFIXES) < 2


def _casefolded(path: str) -> str:
    return _without_suffix(path).casefold()


def _example(names: Iterable[str]) -> str:
    return repr(first) if (first := min(names, default=None)) is not None else "nothing"
