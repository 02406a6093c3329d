"""A job's configuration, from flags over files over recipes."""

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import jsonargparse

from reidray.cli.flags import Flag, as_number, check_flags, expected, fits, flags_of
from reidray.config.settings_files import read_settings
from reidray.config.sources import Sources, read_sources
from reidray.errors import UserError
from reidray.interrupts import command_of_this_script
from reidray.suggestions import closest_name, quoted, suggest_name
from reidray.terminal import print_result

Config = TypeVar("Config")


ENDPOINT_HELP = (
    "a store that speaks S3, as http://HOST:PORT; by default the one in AWS_ENDPOINT_URL, else AWS"
)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Set how the job connects to Ray, and what it prints.

    Attributes:
        ray_address: local starts Ray in this process, auto or HOST:PORT joins a running cluster;
            by default the one in RAY_ADDRESS, else local.
        verbose: show Ray's own messages too.
    """

    ray_address: str | None = None
    verbose: bool = False


@dataclass(frozen=True)
class Invocation(Generic[Config]):
    """Hold what a command line asks for.

    Attributes:
        config: of the job.
        session: how it meets Ray.
        resume: the run directory to go on with.
        s3_endpoint: the store that speaks S3, if a flag names it.
        sources: where the values of the configuration come from.
    """

    config: Config
    session: SessionConfig
    resume: str | None
    s3_endpoint: str | None
    sources: Sources

    def arguments_to_resume(self, run: str) -> list[str]:
        """Return the command line that goes on with a run directory as this one would."""
        arguments = ["--resume", run]
        if self.session.ray_address is not None:
            arguments += ["--ray-address", self.session.ray_address]
        if self.s3_endpoint is not None:
            arguments += ["--s3-endpoint", self.s3_endpoint]
        return arguments + ["--verbose"] * self.session.verbose


class DashedParser(jsonargparse.ArgumentParser):
    """Flags are spelled with dashes; the keys of configuration files with underscores.

    A job's own flag of a tuple takes its values one after the other: `--pca 0.9 0.95`.
    """

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """Add an argument, its flag with dashes."""
        if settings.get("type") is bool:
            del settings["type"]
            settings["action"] = jsonargparse.ActionYesNo(no_prefix="no-")
        listed = getattr(settings.get("action"), "_typehint", None)
        if get_origin(listed) is tuple and "." not in names[0]:  # `_take` makes it a tuple again
            del settings["action"]
            settings |= {"type": get_args(listed)[0], "nargs": "+"}
            if "default" in settings:
                settings["default"] = list(settings["default"])
        dashed = tuple(n.replace("_", "-") if n.startswith("--") else n for n in names)
        return super().add_argument(*dashed, **settings)


def recipes(kind: str) -> dict[str, Path]:
    """The recipes that come with reidray for a kind of training, by name."""
    folder = Path(str(files("reidray.config"))) / "recipes" / kind
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def parse_arguments(
    config_class: type[Config],
    arguments: list[str],
    *,
    description: str | None = None,
    example: str | None = None,
    trains: Literal["reid", "multitask"] | None = None,
) -> "Invocation[Config]":
    """Return a job's configuration, as `reidray.cli.job.parse_config` does."""
    if not arguments and example is not None:
        _show_usage(description, example)
    if "--version" in arguments:
        print_result(f"reidray {version('reidray')}")
        sys.exit(0)
    sources = _sources(trains)
    parser = _parser(config_class, description, sources)
    if {"-h", "--help"} & set(arguments):
        parser.parse_args(["--help"])
    own = flags_of(config_class, SessionConfig)
    text = {name: Flag(name, str) for name in sources}
    typed = set(check_flags(arguments, own | text | {"print-config": Flag("print-config", bool)}))
    named, rest = _take_sources(sources, arguments)
    if named["s3-endpoint"]:  # before a run is looked for in that store
        os.environ["AWS_ENDPOINT_URL"] = check_endpoint(named["s3-endpoint"][-1])
    with TemporaryDirectory() as folder:
        known_recipes = recipes(trains) if trains else {}
        layers = _layers(named, known_recipes, Path(folder))
        values = {file: checked_values(config_class, read_settings(file), file) for file in layers}
        _check_complete(config_class, typed, values, example)
        given = []
        for number, layer in enumerate(values.values()):  # as they were read, a pipe but once
            file = Path(folder, f"{number}.json")
            file.write_text(json.dumps(layer))
            given += ["--config", str(file)]
        try:
            parsed = parser.instantiate(parser.parse_args(given + rest)).as_dict()
            config, session = _take(config_class, parsed), _take(SessionConfig, parsed)
        except (argparse.ArgumentError, ValueError) as error:
            message = " ".join(str(error).split())
            raise UserError(_naming_flags(message, own, typed, values)) from error

    from reidray.ray_runtime import keep_to_loopback  # slow to import, for those who ask for help

    keep_to_loopback(session.ray_address)
    resume, endpoint = named.get("resume"), named["s3-endpoint"]
    own_layers = [layer for file, layer in values.items() if file not in known_recipes.values()]
    return Invocation(
        config,
        session,
        resume[-1] if resume else None,
        endpoint[-1] if endpoint else None,
        read_sources((f"--{name}" for name in typed), own_layers),
    )


def _sources(trains: str | None) -> dict[str, str]:
    """Return the flags that are no keys of the configuration, with what `--help` says of them."""
    of_trainings = {
        "recipe": f"start from one of: {', '.join(recipes(trains or ''))}",
        "resume": "go on with this run directory's training",
    }
    return (of_trainings if trains else {}) | {
        "config": "YAML file of the flags' keys",
        "s3-endpoint": ENDPOINT_HELP,
    }


def _parser(
    config_class: type[Any],
    description: str | None,
    sources: dict[str, str],
) -> "DashedParser":
    """Return what parses the flags of a configuration, and explains them."""
    parser = DashedParser(description=description, exit_on_error=False)
    placeholders = {"resume": "RUN", "recipe": "NAME", "s3-endpoint": "URL"}
    for name, text in sources.items():
        if name == "config":
            parser.add_argument("--config", action="config", metavar="FILE", help=text)
        else:
            parser.add_argument(f"--{name}", metavar=placeholders[name], help=text)
    parser.add_argument("--version", action="store_true", help="print the version, and exit")
    parser.add_class_arguments(config_class, None)
    parser.add_class_arguments(SessionConfig, None)
    parts = {f"--{field.name}" for field in fields(config_class) if is_dataclass(field.type)}
    for action in parser._actions:
        if parts & set(action.option_strings):  # of jsonargparse: it takes a file of a part
            action.help = argparse.SUPPRESS
    return parser


def _take_sources(
    sources: dict[str, str], arguments: list[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the values of the flags that are no keys, and all other arguments."""
    found: dict[str, list[str]] = {name: [] for name in sources}
    rest, waiting = [], list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, joined, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in found:
            found[name].append(value if joined else waiting.pop(0))
        else:
            rest.append(argument)
    return found, rest


def _show_usage(description: str | None, example: str) -> NoReturn:
    """Say briefly how a job is called, and end the process: nothing was asked for."""
    script = command_of_this_script()
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print(
            f"{description or ''}\n\nusage:   {script} FLAGS\nexample: {script} {example}\n\n"
            "--help explains every flag.",
            file=sys.stderr,
            flush=True,
        )
    sys.exit(2)


def _check_complete(
    config_class: type[Any],
    typed: set[str],
    layers: dict[Path, dict[str, Any]],
    example: str | None,
) -> None:
    """Refuse a command line without a flag that the job needs.

    Raises:
        UserError: names all that are missing.
    """
    given = typed | {key.replace("_", "-") for layer in layers.values() for key in layer}
    missing = [
        f"--{name}"
        for field in fields(config_class)
        if field.default is MISSING and field.default_factory is MISSING
        if (name := field.name.replace("_", "-")) not in given
    ]
    if missing:
        shown = f", as in: {command_of_this_script()} {example}" if example else ""
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(f"{' and '.join(missing)} {verb} missing{shown}")


def _naming_flags(
    message: str, flags: Mapping[str, Flag], typed: set[str], layers: dict[Path, dict[str, Any]]
) -> str:
    """Return a message about keys that names them as the user did, as flags or in a file."""
    names = {each: flag for flag in flags.values() for each in (flag.name, flag.key)}

    def flagged(found: re.Match[str]) -> str:
        flag = names.get(found[0])
        whole = found.start() == 0 or "." in found[0]
        return f"--{flag.name}" if flag is not None and whole else found[0]

    first = names.get(message.split(" ", 1)[0])
    if first is not None and first.name not in typed:
        for file, values in reversed(layers.items()):
            inner: Any = values
            for part in first.key.split("."):
                inner = inner.get(part) if isinstance(inner, dict) else None
            if inner is not None:
                return f"{file}: {message}"
    return re.sub(r"(?<![-.\w/])[a-z][a-z0-9_.-]*[a-z0-9]", flagged, message)


def check_endpoint(text: str) -> str:
    """Return an endpoint, if it is an address without credentials.

    Raises:
        UserError: it is none; the message does not repeat what may be a secret.
    """
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        usable = usable and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise UserError("--s3-endpoint: expected http://HOST:PORT or https://HOST")
    return text


def _take(config_class: type[Config], values: dict[str, Any]) -> Config:
    """A configuration from those of the values that are its own."""
    names = [field.name for field in fields(config_class)]  # type: ignore[arg-type]
    given = {name: values[name] for name in names}
    return config_class(**{n: tuple(v) if isinstance(v, list) else v for n, v in given.items()})


def _layers(named: dict[str, list[str]], known: dict[str, Path], folder: Path) -> list[Path]:
    """Return the configuration files that flags stand for, the weakest first.

    What lies in an object store is brought to `folder`.
    """
    layers = []
    for name in named.get("recipe", [])[-1:]:
        if name not in known:
            raise UserError(f"recipe {quoted(name)} does not exist: {suggest_name(name, known)}")
        layers.append(known[name])
    layers += [_config_of(run, folder) for run in named.get("resume", [])[-1:]]
    if "" in named["config"]:
        raise UserError("--config '': expected the name of a YAML file")
    return layers + [Path(file) for file in named["config"]]


def _config_of(run: str, folder: Path) -> Path:
    """Return the configuration of a run directory, on this machine's disk.

    Raises:
        UserError: the run is not there, or has none.
    """
    if not run.startswith("s3://"):
        place = Path(run)
        if not run or not place.is_dir():
            raise UserError(f"--resume {quoted(run)}: no such folder; give a run directory")
        if not (place / "config.yaml").is_file():
            raise UserError(f"--resume {run} has no config.yaml: give a run directory")
        return place / "config.yaml"
    from reidray.storage.location import Location  # slow to import, for those who ask for help

    try:
        data = Location(run).read_bytes("config.yaml")
    except OSError as error:
        raise UserError(f"--resume {run} has no config.yaml that can be read ({error})") from error
    (folder / "config.yaml").write_bytes(data)
    return folder / "config.yaml"


def checked_values(
    config_class: type[Any], values: dict[str, Any], file: Path, above: str = ""
) -> dict[str, Any]:
    """Return what a file says of a configuration, once it fits it.

    Raises:
        UserError: a key does not exist, or a value is not of its type.
    """
    kinds = get_type_hints(config_class)
    known = [field.name for field in fields(config_class)]
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        if key not in known:
            near = closest_name(str(key), known)
            advice = f"did you mean {above + near!r}?" if near else f"it has {', '.join(known)}"
            raise UserError(f"{file}: key {quoted(name)} does not exist: {advice}")
        kind = kinds[key]
        if is_dataclass(kind):
            if not isinstance(value, dict):  # text would be taken for a class, and imported
                raise UserError(
                    f"{file}: key {name!r} is {quoted(value)}: expected keys of its own below it"
                )
            found[key] = checked_values(kind, value, file, f"{name}.")  # type: ignore[arg-type]
        elif fits(kind, value):
            found[key] = as_number(kind, value)
        else:
            shown = "empty" if value is None else quoted(value)
            raise UserError(f"{file}: key {name!r} is {shown}: expected {expected(kind, value)}")
    return found
