"""Pair the names of one file with those of another, which may write them a little differently."""

import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from reidray.data.images.image_formats import IMAGE_SUFFIXES
from reidray.errors import UserError


@dataclass(frozen=True)
class NamePairs:
    """The names of one side that the other side knows.

    Attributes:
        known_as: name to the name that the other side has for it.
        differences: how many names differ in what, such as `folders`; empty where none does.
        unclear: two names of one side that could be one name of the other; None where there are
            no such.
    """

    known_as: Mapping[str, str]
    differences: Mapping[str, int]
    unclear: tuple[str, str, str] | None = None

    def check(self, side: str, other: str) -> None:
        """Refuse names that could be paired in two ways.

        Args:
            side: where the names come from.
            other: where those come from that they are paired with.

        Raises:
            UserError: says which.
        """
        if self.unclear is not None:
            first, second, name = self.unclear
            raise UserError(
                f"{side} and {other}: {first!r} and {second!r} could both be {name!r}; "
                "write names alike in both"
            )


def pair_names(names: Collection[str], known: Collection[str]) -> NamePairs:
    """Pair each name with the one of `known` that means the same file.

    Names are equal, or one ends with the other (`gallery/g0.jpg` and `g0.jpg`, with slashes of
    either kind). Where no name is, those are paired that differ in a suffix which one side lacks,
    and where none does, in upper and lower case as well.
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
    """Return the error of two sides without a common name, which shows one of each."""
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
    unclear = None
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
            unclear = unclear or (meant[0], meant[1], name)
        elif meant[0] in found_by:
            unclear = unclear or (found_by[meant[0]], name, meant[0])
        else:
            found_by[meant[0]] = name
            known_as[name] = meant[0]
            differing[difference] += 1
    return NamePairs(known_as, dict(differing), unclear)


def _ends(path: str) -> list[str]:
    """`b/c.jpg` and `c.jpg` of `a/b/c.jpg`, the longest first."""
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
