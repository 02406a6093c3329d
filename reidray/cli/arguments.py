"""Parse the command line of a job."""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import urlsplit

from reidray.cli.flags import Flag, flags_of, parse_flags, read_flag
from reidray.cli.messages import naming_flags
from reidray.config.loading import MissingValueError, find_plugins, load_config
from reidray.config.sections.durations import DEFAULT_WAIT, parse_duration
from reidray.config.sections.open_section import config_to_dict, section_settings
from reidray.config.settings_files import read_settings
from reidray.config.sources import Sources
from reidray.errors import UserError
from reidray.registry import import_plugins
from reidray.suggestions import quoted
from reidray.terminal import print_result

Config = TypeVar("Config")

RECIPE_FLAGS: dict[str, tuple[str | None, str]] = {
    "recipe": ("NAME", "recipe whose values replace the defaults; list prints the names"),
    "resume": ("RUN", "run directory of a training to go on with"),
}
PLAN_FLAGS: dict[str, tuple[str | None, str]] = {
    "plan": (
        None,
        "time some images on these machines, print what the job would take and what "
        "decides that, and write nothing",
    ),
}
FILE_FLAGS: dict[str, tuple[str | None, str]] = {
    "config": (
        "FILE",
        "YAML file of values by key, in the form of --print-config; flags win over it; can be "
        "repeated",
    ),
    "print-config": (None, "print the configuration as YAML, and exit"),
}
MACHINE_FLAGS: dict[str, tuple[str | None, str]] = {
    "s3-endpoint": (
        "URL",
        "address of a store that speaks S3, as http://HOST:PORT; by default the one in "
        "AWS_ENDPOINT_URL, else AWS",
    ),
}
MESSAGE_FLAGS: dict[str, tuple[str | None, str]] = {
    "version": (None, "print the version, and exit"),
    "help": (None, "print this help, and exit"),
}


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Set the connection of a job to Ray, and its messages.

    Attributes:
        ray_address: `local` starts Ray in this process, `auto` or HOST:PORT joins a running
            cluster, `none` trains in this process without Ray (trainings alone); by default the one
            in RAY_ADDRESS, else local.
        wait_for_resources: time to wait for CPUs or GPUs that other jobs hold, or that an
            autoscaler has to start, before the job ends, as 90s, 10m or 1h. A line says for what
            it waits and who holds it.
        verbose: show Ray's own messages too.
    """

    ray_address: str | None = None
    wait_for_resources: str = DEFAULT_WAIT
    verbose: bool = False

    def __post_init__(self) -> None:
        try:
            parse_duration(self.wait_for_resources, "wait_for_resources")
        except ValueError as error:
            raise UserError(str(error)) from None

    @property
    def starts_ray(self) -> bool:
        """Return whether the connection starts Ray on this machine."""
        from reidray.ray_runtime import starts_local_ray  # slow to import

        return starts_local_ray(self.ray_address)

    def connect(
        self, *, dashboard: bool = False, needs_gpu: str | None = None
    ) -> AbstractContextManager[None]:
        """Return the connection to Ray, which opens as a context (see `ray_session`)."""
        from reidray.ray_runtime import ray_session  # slow to import

        return ray_session(
            self.ray_address,
            verbose=self.verbose,
            dashboard=dashboard,
            needs_gpu=needs_gpu,
            wait_for_resources=self.wait_for_resources,
        )


@dataclass(frozen=True)
class JobArguments(Generic[Config]):
    """Hold the parsed command line of a job.

    Attributes:
        config: the configuration of the job.
        sources: the sources of its values.
        session: connection to Ray.
        resume: the run directory to go on with.
        plan: whether to plan the job in place of running it.
        s3_endpoint: the store that speaks S3, if a flag names one.
        command: the command that runs the job.
        words: the command line after the command.
        started: seconds since 1970 at which the job began.
    """

    config: Config
    sources: Sources
    session: SessionConfig
    resume: str | None
    plan: bool
    s3_endpoint: str | None
    command: str
    words: list[str]
    started: float

    def command_to_resume_run(self, run: str) -> str:
        """Return the command that goes on with a run directory, on the same cluster and store.

        Ray sets RAY_ADDRESS for a submitted job, to an address that means nothing to the user. So
        only `none`, which Ray does not set, is taken from there.
        """
        from reidray.ray_runtime import WITHOUT_RAY, uses_ray  # slow to import

        words = ["--resume", run]
        address = self.session.ray_address
        if address is None and not uses_ray(None):
            address = WITHOUT_RAY
        if address is not None:
            words += ["--ray-address", address]
        if self.s3_endpoint is not None:
            words += ["--s3-endpoint", self.s3_endpoint]
        if self.session.wait_for_resources != DEFAULT_WAIT:
            words += ["--wait-for-resources", self.session.wait_for_resources]
        words += ["--verbose"] * self.session.verbose
        return f"{self.command} {shlex.join(words)}"

    def command_to_resume(self) -> str:
        """Return this command, with the flag `--resume` at its end."""
        words = [word for word in self.words if word != "--resume"]
        return f"{self.command} {shlex.join([*words, '--resume'])}"


def job_flags(config_class: type[Any], words: Sequence[str] = ()) -> dict[str, Flag]:
    """Return all flags of a job by name.

    Args:
        config_class: the configuration of the job.
        words: a command line. Where it has the flag of an unknown network option, loss or
            augmentation, all modules that may register it are imported first.
    """
    others = FILE_FLAGS | MACHINE_FLAGS | MESSAGE_FLAGS
    if has_recipes(config_class):
        others |= RECIPE_FLAGS
    if has_plan(config_class):
        others |= PLAN_FLAGS
    typed = {name: Flag(name, bool if help_[0] is None else str) for name, help_ in others.items()}
    keys = [word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words]
    return flags_of(config_class, SessionConfig, keys=keys) | typed


def import_named_plugins(
    config_class: type[Any], words: Sequence[str], files: Sequence[Path] = ()
) -> None:
    """Import the plugins of a command line, so that the flags of their parts are known.

    Args:
        config_class: the configuration of the job.
        words: the command line after the command.
        files: YAML files that name the plugins where the flag `--plugins` is missing.

    Raises:
        UserError: a module does not exist, or a file cannot be read.
    """
    if "plugins" in section_settings(config_class):
        readable = (file for file in files if file.is_file())  # a pipe can be read once only
        named = read_flag("plugins", words) or find_plugins(map(read_settings, readable))
        with naming_flags(job_flags(config_class)):
            import_plugins(named)


def has_recipes(config_class: type[Any]) -> bool:
    """Return whether a configuration is that of a training, which has recipes and can go on."""
    return hasattr(config_class, "RECIPES")


def has_plan(config_class: type[Any]) -> bool:
    """Return whether a job can be planned before it runs."""
    return getattr(config_class, "HAS_PLAN", False)


def parse_arguments(
    config_class: type[Config],
    words: list[str],
    *,
    command: str = "reidray",
    example: str | None = None,
) -> JobArguments[Config]:
    """Return the arguments of a job: its flags, over `--config FILE`, over `--recipe NAME`.

    Args:
        config_class: a dataclass of dataclasses; each field becomes a flag and a key of files.
        words: the command line after the command.
        command: the command, for messages.
        example: flags with which the job does something, shown where one is missing.

    Raises:
        UserError: a flag, a file or a value is wrong.
    """
    started = time.time()
    for endpoint in filter(None, read_flag("s3-endpoint", words)):  # a run may lie in that store
        os.environ["AWS_ENDPOINT_URL"] = check_endpoint(endpoint)
    with TemporaryDirectory() as folder:
        files = _find_files(config_class, words, Path(folder))
        import_named_plugins(config_class, words, files)
        flags = job_flags(config_class, words)
        values = parse_flags(words, flags)
        last = {name: given[-1] for name, given in values.items()}
        own = {
            each.key: last[name] for name, each in flags_of(config_class).items() if name in last
        }
        recipe = last.get("recipe") if has_recipes(config_class) else None
        try:
            with naming_flags(flags):
                loaded = load_config(config_class, recipe, own, files)
        except MissingValueError as error:
            shown = f", as in: {command} {example}" if example else ""
            raise UserError(f"{error}{shown}") from None
    if last.get("print-config"):
        print_and_exit(_as_yaml(loaded.config))
    session_values = {
        flag.key: last[name] for name, flag in flags_of(SessionConfig).items() if name in last
    }
    with naming_flags(flags):
        session = SessionConfig(**session_values)

    from reidray.ray_runtime import set_import_variables  # slow to import

    set_import_variables(session.ray_address, verbose=session.verbose)
    return JobArguments(
        config=loaded.config,
        sources=loaded.sources,
        session=session,
        resume=last.get("resume") if has_recipes(config_class) else None,
        plan=bool(last.get("plan")) and has_plan(config_class),
        s3_endpoint=last.get("s3-endpoint"),
        command=command,
        words=words,
        started=started,
    )


def check_endpoint(text: str) -> str:
    """Return an endpoint once it is checked to be an address without credentials.

    Raises:
        UserError: the text is another one; the message does not repeat it, as it may be a secret.
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


def print_and_exit(text: str) -> NoReturn:
    """Print a text on stdout, and end the process."""
    print_result(text)
    sys.exit(0)


def _as_yaml(config: Any) -> str:
    import yaml

    return yaml.safe_dump(config_to_dict(config), sort_keys=False).rstrip()


def _find_files(config_class: type[Any], words: Sequence[str], folder: Path) -> list[Path]:
    """Return the configuration files of a command line; the one of a run to resume is first.

    Args:
        config_class: the configuration of the job.
        words: the command line after the command.
        folder: where a file from an object store goes.

    Raises:
        UserError: a run has no configuration, or a file has no name.
    """
    runs = read_flag("resume", words)[-1:] if has_recipes(config_class) else []
    named = read_flag("config", words)
    if "" in named:
        raise UserError("--config '': expected the name of a YAML file")
    return [*(_config_of(run, folder) for run in runs), *map(Path, named)]


def _config_of(run: str, folder: Path) -> Path:
    """Return the configuration file of a run directory, on this machine's disk.

    Args:
        run: the run directory.
        folder: folder for files from an object store.

    Raises:
        UserError: the run does not exist, or has no configuration.
    """
    if not run.startswith("s3://"):
        run_folder = Path(run)
        if not run or not run_folder.is_dir():
            raise UserError(f"--resume {quoted(run)}: no such folder; give a run directory")
        if not (run_folder / "config.yaml").is_file():
            raise UserError(f"--resume {run} has no config.yaml: give a run directory")
        return run_folder / "config.yaml"
    from reidray.storage.location import Location  # slow to import, and `--help` needs none of it

    try:
        data = Location(run).read_bytes("config.yaml")
    except OSError as error:
        raise UserError(f"--resume {run} has no config.yaml that can be read ({error})") from error
    (folder / "config.yaml").write_bytes(data)
    return folder / "config.yaml"
