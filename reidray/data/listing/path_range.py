"""Name a part of a listing by the paths between which it lies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PathRange:
    """Hold the bounds of a range of paths, which are relative to a folder.

    The order is that of code points, and so of the bytes of UTF-8. A bound need not be a path.

    Attributes:
        after: the range begins after this text; empty for the first path.
        until: the range ends with this text; None for the last path.
    """

    after: str = ""
    until: str | None = None

    def holds(self, path: str) -> bool:
        """Return whether a path lies in the range."""
        return path > self.after and (self.until is None or path <= self.until)

    def may_hold_files_of(self, folder: str) -> bool:
        """Return whether a path below a folder, whose name ends in `/`, may lie in the range."""
        begins_in_time = self.until is None or folder <= self.until
        return begins_in_time and (folder > self.after or self.after.startswith(folder))

    def cut(self, cuts: Sequence[str]) -> "Iterator[PathRange]":
        """Yield the parts of the range between ascending cuts within it."""
        after = self.after
        for cut in cuts:
            yield PathRange(after, cut)
            after = cut
        yield PathRange(after, self.until)
