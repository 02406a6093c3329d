"""Register the parts that reidray is extended by, such as networks and losses, by name."""

import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from reidray.errors import UserError
from reidray.suggestions import quoted, suggest_name

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


class Registry(Generic[Entry]):
    """Hold entries of one kind by their names, in the order of registration.

    A module registers its entries when it is imported. A name that no imported module registers is
    looked for in all modules of a package before it is refused, so a new module in that package is
    found without a list that names it.

    >>> colours = Registry[str]("colour")
    >>> colours.add("red", "#ff0000")
    >>> colours.get("red"), "blue" in colours
    ('#ff0000', False)

    Args:
        kind: the kind of the entries, for messages, such as `network`.
        package: name of the package whose modules register entries of this kind.
        check: function that raises an error about an entry that cannot be used.
        options: the options of the entries, which a module registers beside them.
    """

    def __init__(
        self,
        kind: str,
        package: str | None = None,
        *,
        check: Callable[[Entry], None] | None = None,
        options: "Registry[Any] | None" = None,
    ) -> None:
        self.kind = kind
        self._package = package
        self._check = check
        self._options = options
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, entry: Entry, origin: object = None) -> None:
        """Register an entry.

        A second import of the same module replaces its entry.

        Args:
            name: name of the entry.
            entry: the entry.
            origin: the class or function that it was registered beside, or a text that identifies
                it; by default the entry.

        Raises:
            ValueError: another module has registered the name.
        """
        if self._check is not None:
            self._check(entry)
        here = origin if isinstance(origin, str) else _full_name(origin or entry)
        earlier = self._origins.setdefault(name, here)
        if earlier != here:
            raise ValueError(
                f"{self.kind} {name!r} is registered by {earlier} already: "
                f"choose another name for {here}"
            )
        self._entries[name] = entry

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return a decorator that registers a class or a function under a name."""

        def decorate(entry: Registered) -> Registered:
            self.add(name, entry)  # type: ignore[arg-type]
            return entry

        return decorate

    def get(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            UserError: no entry has the name; the message suggests one.
        """
        if name in self:
            return self._entries[name]
        if self._options is not None and name in self._options.registered:
            raise UserError(
                f"{self.kind} {quoted(name)} has the options {self._options._origins[name]} but no "
                f"code: register its code with register_{self.kind}({name!r})"
            )
        raise UserError(
            f"{self.kind} {quoted(name)} does not exist: {suggest_name(name, self._entries)}"
        )

    def import_modules(self, name: str | None = None) -> None:
        """Import modules of the package, so that they register their entries.

        Args:
            name: a word that the source of a module must hold to be imported; by default all
                modules are imported. Importing PyTorch for a name that no module holds is thus
                avoided.
        """
        if self._package is None:
            return
        folder = Path(__file__).parent.joinpath(*self._package.split(".")[1:])
        for file in sorted(folder.rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            if name is None or (name in source and re.search(rf"\b{re.escape(name)}\b", source)):
                parts = file.relative_to(folder).with_suffix("").parts
                importlib.import_module(".".join((self._package, *parts)).removesuffix(".__init__"))

    @property
    def registered(self) -> dict[str, Entry]:
        """Return the entries that the modules imported so far have registered."""
        return dict(self._entries)

    def __contains__(self, name: object) -> bool:
        """Return whether an entry has the name, if need be after importing its module."""
        if name not in self._entries and isinstance(name, str):
            self.import_modules(name)
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Yield all names, after importing the package."""
        self.import_modules()
        return iter(dict(self._entries))


def import_plugins(modules: Iterable[str]) -> None:
    """Import modules that register networks, losses and other parts of a user.

    Args:
        modules: names of modules on the Python path, such as `my_networks`.

    Raises:
        UserError: a module does not exist.
    """
    for name in modules:
        try:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ModuleNotFoundError(name=name)
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists; a module that it imports does not
            raise UserError(
                f"`plugins`: module {quoted(name)} is not on the Python path: "
                "set PYTHONPATH to its folder, or install its package"
            ) from error


def _full_name(entry: object) -> str:
    """Return the full name of a class or a function; of another object that of its class."""
    named: Any = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{named.__module__}.{named.__qualname__}"
