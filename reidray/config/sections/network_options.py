"""Configure networks, without importing PyTorch, so that the command line checks them at once."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar

from reidray.config.sections.limits import (
    MAX_FEATURES,
    MAX_PIXELS,
    MAX_PIXELS_A_SIDE,
    check_options,
    check_options_class,
    find_mistakes,
    limited,
    require,
    type_hints,
)
from reidray.config.sections.open_section import OpenSection, Setting
from reidray.config.sections.weight_names import MIN_MATCH
from reidray.registry import Registry
from reidray.suggestions import quoted, suggest_name

NetworkTask = Literal["reid", "pets", "attributes"]
Prediction = Literal["identity", "attributes", "class", "mask"]

DEFAULT_NETWORKS: dict[str, str] = {
    "reid": "apr",
    "pets": "pets_scratch_transpose",
    "attributes": "attributes_vgg",
}
"""The network that a task trains where the configuration names none."""


def image_side(default: int) -> int:
    """Return the field of a height or a width in pixels."""
    return limited(default, 16, MAX_PIXELS_A_SIDE)  # type: ignore[no-any-return]


def feature_count(default: int) -> int:
    """Return the field of a number of features."""
    return limited(default, 1, MAX_FEATURES)  # type: ignore[no-any-return]


def dropout_share(default: float) -> float:
    """Return the field of a share that dropout sets to 0 in training."""
    return limited(default, 0, under=1)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Hold the options that every network has. A network adds its own in a subclass.

    The defaults are those of a training. Fields need a default, and their limits are declared with
    `limited`. Class attributes describe the network:

    Attributes:
        task: the task that the network is trained for.
        predicts: what the network predicts beside an embedding.
        pretrained: whether a network can start from the weights `imagenet`. Any network can start
            from weights of a file.
        reads_cameras: whether the network takes the cameras of the crops in training. Its `forward`
            then has a second argument, (B,) int64: indices of cameras, -1 where unknown. Without
            it, no camera is known.
        height: rows of an image.
        width: columns of an image.
    """

    task: ClassVar[NetworkTask] = "reid"
    predicts: ClassVar[tuple[Prediction, ...]] = ()
    pretrained: ClassVar[bool] = False
    reads_cameras: ClassVar[bool] = False

    height: int = image_side(128)
    width: int = image_side(64)

    def __post_init__(self) -> None:
        check_options(self, "network")
        require(
            self.height * self.width <= MAX_PIXELS,
            f"`network.height` x `network.width` must be {MAX_PIXELS:,} pixels or fewer",
        )


Options = TypeVar("Options", bound=NetworkOptions)

NETWORK_OPTIONS: Registry[type[NetworkOptions]] = Registry(
    "network", "reidray.models.networks", check=check_options_class
)
"""Hold the options of each network by the network's name."""

register_network_options = NETWORK_OPTIONS.register
"""Register a subclass of `NetworkOptions` under the name of its network."""


class NetworkConfig(OpenSection):
    """Choose a network, the weights it starts from and its options.

    Options without a value are as in the network's paper or report, and its backbone is one that
    suits a CPU. Each network has its own options; those of networks are `NETWORK_OPTIONS`.

    Attributes:
        name: the network; by default one that suits the task and the data.
        weights: weights to start from: none; imagenet; a name on the Hugging Face hub
            (hf-hub:ORG/NAME, timm/NAME); a local path or s3:// URI of a file of safetensors or of
            torch.save (of timm, Torchreid, fast-reid, TransReID, SOLIDER); or a model directory,
            RUN/model.
        weights_min_match: share of the parameters of the backbone that weights of a file must fill,
            in 0..1.
        options: the options that have a value, by name.
    """

    SECTION: ClassVar[str] = "network"
    REGISTRY: ClassVar[Registry[Any]] = NETWORK_OPTIONS

    name: str | None
    weights: str
    weights_min_match: float
    options: Mapping[str, Any]

    def __init__(
        self,
        *,
        name: str | None = None,
        weights: str = "none",
        weights_min_match: float = MIN_MATCH,
        **options: Any,
    ) -> None:
        require(0 <= weights_min_match <= 1, "`network.weights_min_match` must lie in 0..1")
        given = {key: value for key, value in options.items() if value is not None}
        _check_network_options(name, given, self.find_settings(given))
        vars(self).update(
            name=name, weights=weights, weights_min_match=weights_min_match, options=given
        )

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return the settings of all networks registered so far, by name."""
        return dict(cls._settings_of(tuple(cls.REGISTRY.registered.items())))

    @classmethod
    @cache  # a configuration asks many times
    def _settings_of(
        cls, networks: tuple[tuple[str, type[NetworkOptions]], ...]
    ) -> dict[str, Setting]:
        """Return the settings of some networks, by name."""
        registered = dict(networks)
        found = {
            "name": Setting(str | None, None, cls, "name", _describe_networks(registered)),
            "weights": Setting(str, "none", cls, "weights"),
            "weights_min_match": Setting(float, MIN_MATCH, cls, "weights_min_match"),
        }
        for options_class in registered.values():
            kinds = type_hints(options_class)
            for field in fields(options_class):
                kind, note = kinds[field.name] | None, _describe_defaults(registered, field.name)
                setting = Setting(kind, None, options_class, field.name, note)
                found.setdefault(field.name, setting)
        return found

    def to_settings(self) -> dict[str, Any]:
        """Return the settings that have a value as plain values.

        The least share of weights that match is among them where it is not the default.
        """
        least = {"weights_min_match": self.weights_min_match}
        is_default = self.weights_min_match == MIN_MATCH
        own = {"name": self.name, "weights": self.weights, **({} if is_default else least)}
        return {**own, **self.options}

    def default_values(self) -> dict[str, Any]:
        """Return the defaults of the settings, with those of the network's own options."""
        chosen = self.REGISTRY.registered.get(self.name or "")
        return super().default_values() | (vars(chosen()) if chosen else {})

    def __getattr__(self, name: str) -> Any:
        """Return the value of an option; None where it has none."""
        if not name.startswith("_") and "options" in vars(self) and name in self.settings():
            return self.options.get(name)
        raise AttributeError(f"{type(self).__name__} has no option {name!r}")


def _describe_networks(registered: Mapping[str, type[NetworkOptions]]) -> str:
    """Return the names of the networks by their tasks."""
    by_task: dict[str, list[str]] = {}
    for name, options in registered.items():
        by_task.setdefault(options.task, []).append(name)
    return "; ".join(f"{task}: {', '.join(sorted(names))}" for task, names in by_task.items())


def _describe_defaults(registered: Mapping[str, type[NetworkOptions]], option: str) -> str:
    """Return the networks that have an option, by its default."""
    by_default: dict[Any, list[str]] = {}
    for name, options in registered.items():
        for field in fields(options):
            if field.name == option:
                by_default.setdefault(field.default, []).append(name)
    return "; ".join(f"{', '.join(sorted(names))}: {each}" for each, names in by_default.items())


def check_network_name(name: str | None, task: str) -> None:
    """Refuse the name of a network that a task cannot train.

    Raises:
        ValueError: no such network exists, or it is for another task.
    """
    if name is None:
        return
    known = name in NETWORK_OPTIONS
    if known and NETWORK_OPTIONS.get(name).task == task:
        return
    other = NETWORK_OPTIONS.get(name).task if known else None
    reason = f"is for {other}, not for {task}" if other else "does not exist"
    registered = NETWORK_OPTIONS.registered
    names = sorted(each for each, options in registered.items() if options.task == task)
    raise ValueError(f"`network.name` {quoted(name)} {reason}: {suggest_name(name, names)}")


def _check_network_options(
    name: str | None, options: Mapping[str, Any], known: Mapping[str, Setting]
) -> None:
    """Check that some network can have the values.

    Options that the named network lacks are checked after the data is read, because a network that
    the user names drops the options of a recipe.

    Raises:
        ValueError: a value is not possible; the message names the first one.
    """
    chosen = NETWORK_OPTIONS.registered.get(name or "")
    for key, value in options.items():
        has_own = chosen is not None and key in {field.name for field in fields(chosen)}
        options_class = chosen if chosen and has_own else known[key].documented_by
        for mistake in find_mistakes(options_class, {key: value}, {key: f"`network.{key}`"}):
            raise ValueError(mistake)
    require(
        options.get("height", 1) * options.get("width", 1) <= MAX_PIXELS,
        f"`network.height` x `network.width` must be {MAX_PIXELS:,} pixels or fewer",
    )
