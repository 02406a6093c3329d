"""A job's configuration, from flags over files over recipes."""

import argparse
import os
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import jsonargparse
import yaml

from reidray.errors import UserError

Config = TypeVar("Config")


ENDPOINT_HELP = (
    "a store that speaks S3, as http://HOST:PORT; by default the one in AWS_ENDPOINT_URL, else AWS"
)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """How the job meets Ray, and what it says.

    Attributes:
        ray_address: local starts Ray in this process, auto or HOST:PORT joins a running cluster;
            by default the one in RAY_ADDRESS, else local.
        verbose: show Ray's own messages too.
    """

    ray_address: str | None = None
    verbose: bool = False


@dataclass(frozen=True)
class Invocation(Generic[Config]):
    """What a command line asks for.

    Attributes:
        config: of the job.
        session: how it meets Ray.
        resume: the run directory to go on with.
        s3_endpoint: the store that speaks S3, if a flag names it.
    """

    config: Config
    session: SessionConfig
    resume: str | None
    s3_endpoint: str | None

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
    folder = Path(str(files("reidray"))) / "recipes" / kind
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def parse_arguments(
    config_class: type[Config],
    arguments: list[str],
    *,
    description: str | None = None,
    trains: Literal["reid", "multitask"] | None = None,
) -> "Invocation[Config]":
    """A job's configuration: its flags, over `--config FILE`, over a training's `--recipe NAME`.

    Args:
        config_class: a dataclass of dataclasses; each field becomes a flag and a key.
        arguments: the command line without the script's name.
        description: what `--help` says of the job.
        trains: the kind of training it is, with `--recipe NAME` and `--resume RUN`; None for none.

    Raises:
        UserError: a flag, a file or a value is not what it should be.
    """
    parser = DashedParser(description=description, exit_on_error=False)
    sources = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    known_recipes = recipes(trains) if trains else {}
    if trains:
        for each in (parser, sources):
            _add_training_sources(each, known_recipes)
    parser.add_argument("--config", action="config", help="YAML file of the flags' keys")
    parser.add_class_arguments(config_class, None)
    parser.add_class_arguments(SessionConfig, None)
    sources.add_argument("--config", type=Path, action="append", default=[])
    for each in (parser, sources):
        each.add_argument("--s3-endpoint", type=_endpoint, metavar="URL", help=ENDPOINT_HELP)
    try:
        named, rest = sources.parse_known_args(arguments)
        if named.s3_endpoint is not None:  # before a run is looked for in that store
            os.environ["AWS_ENDPOINT_URL"] = named.s3_endpoint
        with TemporaryDirectory() as folder:
            layers = _layers(named, known_recipes, Path(folder))
            for file in layers:
                _check_keys(config_class, _read_yaml(file), file, ())
            _check_flags(parser, rest)
            given = [part for file in layers for part in ("--config", str(file))] + rest
            values = parser.instantiate(parser.parse_args(given)).as_dict()
        config, session = _take(config_class, values), _take(SessionConfig, values)
    except (argparse.ArgumentError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error

    from reidray.session import keep_to_loopback  # slow to import, for those who ask for help

    keep_to_loopback(session.ray_address)
    return Invocation(config, session, getattr(named, "resume", None), named.s3_endpoint)


def _endpoint(text: str) -> str:
    """An endpoint, if it is an address without credentials.

    Raises:
        ArgumentTypeError: it is none; the message does not repeat what may be a secret.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise argparse.ArgumentTypeError("expected http://HOST:PORT or https://HOST")
    return text


def _take(config_class: type[Config], values: dict[str, Any]) -> Config:
    """A configuration from those of the values that are its own."""
    names = [field.name for field in fields(config_class)]  # type: ignore[arg-type]
    given = {name: values[name] for name in names}
    return config_class(**{n: tuple(v) if isinstance(v, list) else v for n, v in given.items()})


def _add_training_sources(parser: argparse.ArgumentParser, known: dict[str, Path]) -> None:
    """The flags of a training that stand for whole sets of keys."""
    parser.add_argument("--recipe", type=str, help=f"start from one of: {', '.join(known)}")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run directory's training")


def _layers(named: argparse.Namespace, known: dict[str, Path], folder: Path) -> list[Path]:
    """The configuration files that flags stand for, the weakest first.

    What lies in an object store is brought to `folder`.
    """
    layers = []
    if getattr(named, "recipe", None) is not None:
        if named.recipe not in known:
            near = get_close_matches(named.recipe, known, n=1, cutoff=0.0)
            raise UserError(f"recipe {named.recipe!r} does not exist: did you mean {near[0]!r}?")
        layers.append(known[named.recipe])
    if getattr(named, "resume", None) is not None:
        layers.append(_config_of(named.resume, folder))
    return [*layers, *named.config]


def _config_of(run: str, folder: Path) -> Path:
    """The configuration of a run directory, on this machine's disk."""
    if not run.startswith("s3://"):
        return Path(run) / "config.yaml"
    from reidray.data.storage import Location  # slow to import, for those who ask for help

    try:
        data = Location(run).read_bytes("config.yaml")
    except OSError as error:
        raise UserError(f"run {run} has no config.yaml that can be read ({error})") from error
    (folder / "config.yaml").write_bytes(data)
    return folder / "config.yaml"


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise UserError(f"configuration {file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"configuration {file} is not YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"configuration {file} holds no keys: expected lines such as `epochs: 60`")
    return values


def _check_keys(
    config_class: type[Any], values: dict[str, Any], file: Path, above: tuple[str, ...]
) -> None:
    """Refuse a key that the configuration does not have, naming the nearest that it has."""
    known = {field.name: field.type for field in fields(config_class)}
    for key, value in values.items():
        name = ".".join((*above, str(key)))
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            nearest = ".".join((*above, near))
            raise UserError(f"{file}: key {name!r} does not exist: did you mean {nearest!r}?")
        kind = known[key]
        if not is_dataclass(kind):
            continue
        if not isinstance(value, dict):  # text would be taken for the name of a class, and imported
            raise UserError(f"{file}: key {name!r} is {value!r}: expected keys of its own below it")
        _check_keys(kind, value, file, (*above, str(key)))  # type: ignore[arg-type]


def _check_flags(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Refuse a flag that does not exist, naming the nearest that does."""
    known = {flag for action in parser._actions for flag in action.option_strings}
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and len(flag) > 2 and flag not in known:
            near = get_close_matches(flag, known, n=1, cutoff=0.0)[0]
            raise UserError(f"flag {flag} does not exist: did you mean {near}?")
