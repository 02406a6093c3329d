"""Define the interface of a layout, its registry, and the options with which it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from reidray.data.manifest import Manifest
from reidray.registry import Registry
from reidray.storage.location import Location


@dataclass(frozen=True)
class ReadOptions:
    """Hold the options with which a layout is read.

    Attributes:
        strict: whether a finding that the notes of the manifest would count is an error.
        chosen: whether the user named the layout, which resolves ambiguous folders.
        root: the root of the relative paths of a manifest file; None for its own folder.
    """

    strict: bool = False
    chosen: bool = False
    root: str | None = None


class Layout(Protocol):
    """Recognise and read the folders of one layout."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a constant of a module
        """Return the name of the layout, as the field `layout` takes it."""

    @property
    def EXPECTED(self) -> str:  # noqa: N802 - a constant of a module
        """Return a description of the folders and files of the layout, for messages."""

    @property
    def BESIDE(self) -> frozenset[str]:  # noqa: N802 - a constant of a module
        """Return the files, and the folders with a final slash, that it reads beside images."""

    def recognises(self, location: Location, names: Sequence[str], /) -> bool:
        """Return whether a folder with these children looks like this layout."""

    def read(self, location: Location, options: ReadOptions, /) -> Manifest:
        """Return the manifest of a folder of this layout."""


class RegisteredLayout(NamedTuple):
    """Hold a layout and its place among the others.

    Attributes:
        layout: the layout.
        order: place in the order in which `auto` tries the layouts.
        has_marks: whether names of its own mark the layout. Other data may resemble one without.
    """

    layout: Any
    order: int
    has_marks: bool


LAYOUTS: Registry[RegisteredLayout] = Registry("layout", "reidray.data.layouts")
"""The layouts by name."""


def register_layout(
    layout: Layout | ModuleType, *, order: int = 50, has_marks: bool = True
) -> None:
    """Register a layout under its `NAME`.

    Args:
        layout: an object, or a module, with the attributes and functions of `Layout`.
        order: place in the order in which `auto` tries the layouts. Those that come with reidray
            and have marks use 10 to 40, those without 60 to 90.
        has_marks: whether names of its own mark the layout. Other data may resemble one without.
    """
    known: Any = layout
    kind = layout.__name__ if isinstance(layout, ModuleType) else type(layout).__qualname__
    origin = f"{kind} ({known.EXPECTED})"
    LAYOUTS.add(known.NAME, RegisteredLayout(known, order, has_marks), origin=origin)


def layouts_in_order() -> list[RegisteredLayout]:
    """Return all layouts in the order in which `auto` tries them."""
    return sorted((LAYOUTS.get(name) for name in LAYOUTS), key=lambda each: each.order)
