"""Build the sections of a configuration whose settings come from a registry."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self

from reidray.config.sections.limits import find_mistakes, type_hints
from reidray.config.sections.section import ConfigSection
from reidray.registry import Registry
from reidray.suggestions import suggest_name


class Setting(NamedTuple):
    """Describe a setting of a section.

    Attributes:
        kind: the type of its value, or the dataclass of a section below.
        default: the default; None where it depends on another setting.
        documented_by: the class whose docstring describes the setting.
        attribute: name of the setting in that docstring.
        note: what `--help` adds to the docstring.
    """

    kind: Any
    default: Any
    documented_by: type[Any]
    attribute: str
    note: str = ""


class OpenSection(ConfigSection):
    """Hold the settings of a section whose keys are not fixed.

    A section is immutable and compares by its settings. Settings are keyword arguments and
    attributes, as of a frozen dataclass.
    """

    SECTION: ClassVar[str]
    """Name of the section in a configuration."""

    REGISTRY: ClassVar[Registry[Any]]
    """The parts from which the settings come."""

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return the settings that the parts registered so far have, by name."""
        raise NotImplementedError

    def to_settings(self) -> dict[str, Any]:
        """Return the settings as plain values; the constructor takes them again."""
        raise NotImplementedError

    def default_values(self) -> dict[str, Any]:
        """Return the defaults of the settings."""
        return {name: setting.default for name, setting in self.settings().items()}

    def replace(self, **changes: Any) -> Self:
        """Return the section with other values of some settings."""
        return self._keep_given(type(self)(**{**self.to_settings(), **changes}), changes)

    @classmethod
    def find_settings(cls, names: Iterable[str]) -> dict[str, Setting]:
        """Return the settings, after importing all parts where a name is not among them.

        Raises:
            ValueError: a name is not a setting; the message suggests one.
        """
        known = section_settings(cls, names)
        for name in names:
            if name not in known:
                advice = suggest_name(name, known)
                raise ValueError(f"`{cls.SECTION}.{name}` does not exist: {advice}")
        return known

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed: use `replace`")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.to_settings() == self.to_settings()

    def __hash__(self) -> int:
        return hash(tuple(self.to_settings()))

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.to_settings().items())
        return f"{type(self).__name__}({settings})"


@dataclass(frozen=True, kw_only=True)
class PartOptions:
    """Hold the options of a part, such as a loss. A part adds its own in a subclass.

    Fields need a default, and their limits are declared with `limited`. Class attributes:

    Attributes:
        flat: whether the part's name is the key of its first option, and its other options are
            keys of the section: `{triplet: 1.0, margin: 0.3}`. Otherwise the options are keys
            below the part's name: `{circle: {weight: 1.0, margin: 0.25}}`.
        listed: whether a saved configuration holds the part where its options are the defaults.
    """

    flat: ClassVar[bool] = False
    listed: ClassVar[bool] = False


class PartsSection(OpenSection):
    """Hold the options of each registered part of a kind, such as of all losses."""

    _parts: dict[str, Any]

    def __init__(self, **settings: Any) -> None:
        self.find_settings(settings)
        parts = {
            name: self._build_part(name, options_class, settings)
            for name, options_class in self.part_classes().items()
        }
        vars(self)["_parts"] = parts

    @classmethod
    def part_classes(cls) -> dict[str, type[PartOptions]]:
        """Return the options of each part of the section by the part's name."""
        return cls.REGISTRY.registered

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return the settings that the parts registered so far have, by name."""
        return dict(cls._settings_of(tuple(cls.part_classes().items())))

    @classmethod
    @cache  # a configuration asks many times
    def _settings_of(cls, parts: tuple[tuple[str, type[PartOptions]], ...]) -> dict[str, Setting]:
        """Return the settings of some parts, by name."""
        main: dict[str, Setting] = {}
        shared: dict[str, Setting] = {}
        for name, options_class in parts:
            if not options_class.flat:
                main[name] = Setting(options_class, options_class(), options_class, name)
                continue
            kinds = type_hints(options_class)
            for key, field in _flat_keys(name, options_class):
                setting = Setting(kinds[field.name], field.default, options_class, field.name)
                (main if key == name else shared).setdefault(key, setting)
        flat = {key: each for key, each in main.items() if not is_dataclass(each.kind)}
        return flat | shared | main

    @property
    def parts(self) -> Mapping[str, Any]:
        """Return the options of each part by the part's name, in the order of registration."""
        return self._parts

    def to_settings(self) -> dict[str, Any]:
        """Return the settings as plain values, without unlisted parts at their defaults."""
        saved: dict[str, Any] = {}
        for key, setting in self.settings().items():
            part = self._parts.get(key)
            if is_dataclass(setting.kind):
                if part is not None and (part.listed or part != type(part)()):
                    saved[key] = dict(vars(part))
                continue
            value = getattr(self, key, setting.default)
            if setting.documented_by.listed or value != setting.default:
                saved[key] = value
        return saved

    def __getattr__(self, name: str) -> Any:
        """Return the value of a setting, or the options of a part that has keys of its own."""
        if not name.startswith("_"):
            for part_name, options in self._parts.items():
                if not options.flat and name == part_name:
                    return options
                for key, field in _flat_keys(part_name, type(options)) if options.flat else ():
                    if key == name:
                        return getattr(options, field.name)
        raise AttributeError(f"{type(self).__name__} has no setting {name!r}")

    @classmethod
    def _build_part(
        cls, name: str, options_class: type[PartOptions], settings: Mapping[str, Any]
    ) -> PartOptions:
        """Return the options of a part.

        Raises:
            ValueError: an option is not possible.
        """
        if options_class.flat:
            keys = {field.name: key for key, field in _flat_keys(name, options_class)}
            own = {field: settings[key] for field, key in keys.items() if key in settings}
        else:
            keys = {field.name: f"{name}.{field.name}" for field in fields(options_class)}
            given = settings.get(name, {})
            own = dict(given if isinstance(given, Mapping) else vars(given))
            for key in own:
                if key not in keys:
                    advice = suggest_name(key, keys)
                    raise ValueError(f"`{cls.SECTION}.{name}.{key}` does not exist: {advice}")
        names = {field: f"`{cls.SECTION}.{key}`" for field, key in keys.items()}
        for mistake in find_mistakes(options_class, own, names):
            raise ValueError(mistake)
        return options_class(**own)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dictionaries and lists, for JSON and YAML files."""
    values: dict[str, Any] = _to_plain(config)
    return values


def default_settings(config: Any) -> dict[str, Any]:
    """Return the defaults of a configuration's fields as `config_to_dict` returns values.

    Args:
        config: a configuration or a section; the defaults of the network's options depend on its
            network. Fields without a default are left out.
    """
    if isinstance(config, OpenSection):
        defaults: dict[str, Any] = _to_plain(config.default_values())
        return defaults
    defaults = {}
    for name, setting in section_settings(type(config)).items():
        value = getattr(config, name)
        if isinstance(value, ConfigSection):
            defaults[name] = default_settings(value)
        elif setting.default is not MISSING:
            defaults[name] = _to_plain(setting.default)
    return defaults


def _to_plain(value: Any) -> Any:
    if isinstance(value, OpenSection):
        return _to_plain(value.to_settings())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _to_plain(each) for key, each in value.items()}
    return [_to_plain(each) for each in value] if isinstance(value, list | tuple) else value


def is_section(kind: Any) -> bool:
    """Return whether a type is that of a section: a dataclass or an open section."""
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, OpenSection))


def section_settings(section: Any, names: Iterable[str] = ()) -> dict[str, Setting]:
    """Return the settings of a section, or of a whole configuration, by name.

    Args:
        section: a dataclass or an open section.
        names: names to find. Where an open section lacks one, all its parts are imported first.
    """
    if isinstance(section, type) and issubclass(section, OpenSection):
        for name in set(names) - set(section.settings()):
            section.REGISTRY.import_modules(name)
        return section.settings()
    kinds = type_hints(section)
    return {
        field.name: Setting(kinds[field.name], _default(field), section, field.name)
        for field in fields(section)
    }


def _default(field: Any) -> Any:
    """Return the default of a field, or MISSING."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _flat_keys(name: str, options_class: type[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the key in the section of each field of a flat part: the first has the part's name."""
    first, *others = fields(options_class)
    yield name, first
    yield from ((field.name, field) for field in others)
