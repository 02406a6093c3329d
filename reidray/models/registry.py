"""Networks by name, and the description from which one can be built again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reidray.config.parts import MAX_FEATURES, MAX_PIXELS, MAX_PIXELS_A_SIDE
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, AttributeSchema
from reidray.errors import UserError
from reidray.models.backbones import Backbone
from reidray.models.networks import Network
from reidray.models.networks.attributes import CLOTHING_SCHEMA, ClothingNetwork
from reidray.models.networks.person import (
    AttributePersonNetwork,
    BaselineNetwork,
    SmallPersonNetwork,
)
from reidray.models.networks.pets import (
    pets_autoencoder,
    pets_scratch_deep,
    pets_scratch_transpose,
    pets_scratch_upsample,
)
from reidray.models.networks.pets_mobilenet import (
    pets_mobilenet_dense,
    pets_mobilenet_transpose,
    pets_mobilenet_upsample,
)
from reidray.models.networks.triplet import vgg_triplet_gray, vgg_triplet_rgb
from reidray.suggestions import quoted, suggest_name


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """All it takes to build a network again. What a network does not have is 0 or empty.

    Attributes:
        name: one of `NETWORKS`.
        height: rows of an image.
        width: columns of an image.
        backbone: a preset of ours or any timm model, of `apr` and `baseline`.
        num_people: people the identity classifier tells apart.
        num_classes: classes of image the classifier tells apart.
        schema: attributes it predicts.
        feature_size: width of the dense layer of `apr`.
        embedding_size: length of the embedding of the triplet networks.
        dropout: share dropped in training, of that layer's outputs or else of the channels.
    """

    name: str
    height: int
    width: int
    backbone: str = ""
    num_people: int = 0
    num_classes: int = 0
    schema: AttributeSchema = AttributeSchema()
    feature_size: int = 0
    embedding_size: int = 0
    dropout: float = 0.0


@dataclass(frozen=True)
class NetworkEntry:
    """How a network is built, and from what.

    Attributes:
        task: what it is trained for.
        build: makes it from a description and the weights to start from.
        fields: the fields of `Architecture` that it has, with the values of its paper or report.
        pretrained: whether it can start from weights other than `none`.
        draws_masks: whether it draws a mask beside what it names.
    """

    task: Literal["reid", "pets", "attributes"]
    build: Callable[[Architecture, str], Network]
    fields: dict[str, Any]
    pretrained: bool = False
    draws_masks: bool = False


def _baseline(architecture: Architecture, weights: str) -> Network:
    return BaselineNetwork(Backbone(architecture.backbone, weights), architecture.num_people)


def _apr(architecture: Architecture, weights: str) -> Network:
    if not architecture.schema.attributes:
        raise UserError(
            "network 'apr' learns attributes and the data has none: "
            "add annotations_train.csv or attr_ columns, or use --network.name baseline"
        )
    backbone = Backbone(architecture.backbone, weights)
    return AttributePersonNetwork(
        backbone,
        architecture.num_people,
        architecture.schema.sizes,
        architecture.feature_size,
        architecture.dropout,
    )


def _pets(draw: Callable[[int, int, int], Network], size: int) -> NetworkEntry:
    return NetworkEntry(
        "pets",
        lambda architecture, _: draw(
            architecture.height, architecture.width, architecture.num_classes
        ),
        _oxford_pets(size),
        draws_masks=True,
    )


def _pets_mobilenet(draw: Callable[[int, int, int, str], Network]) -> NetworkEntry:
    return NetworkEntry(
        "pets",
        lambda architecture, weights: draw(
            architecture.height, architecture.width, architecture.num_classes, weights
        ),
        _oxford_pets(128),
        pretrained=True,
        draws_masks=True,
    )


def _oxford_pets(size: int) -> dict[str, Any]:
    return {"height": size, "width": size, "num_classes": 37}


# ResNet-50 and the 751 training people of Market-1501, whose crops are 128x64.
MARKET = {"height": 128, "width": 64, "backbone": "resnet50", "num_people": 751}

NETWORKS: dict[str, NetworkEntry] = {
    "apr": NetworkEntry(
        "reid",
        _apr,
        {**MARKET, "schema": PEDESTRIAN_SCHEMA, "feature_size": 512, "dropout": 0.0},
        pretrained=True,
    ),
    "attributes_vgg": NetworkEntry(
        "attributes",
        lambda architecture, _: ClothingNetwork(
            architecture.height, architecture.width, architecture.schema, architecture.dropout
        ),
        # The report does not say which share; it is that of `vgg_triplet_gray`.
        {"height": 100, "width": 60, "schema": CLOTHING_SCHEMA, "dropout": 0.2},
    ),
    "baseline": NetworkEntry("reid", _baseline, MARKET, pretrained=True),
    "pets_autoencoder": _pets(pets_autoencoder, size=256),
    "pets_mobilenet_dense": NetworkEntry(
        "pets",
        lambda architecture, weights: pets_mobilenet_dense(architecture.num_classes, weights),
        _oxford_pets(128),
        pretrained=True,
    ),
    "pets_mobilenet_transpose": _pets_mobilenet(pets_mobilenet_transpose),
    "pets_mobilenet_upsample": _pets_mobilenet(pets_mobilenet_upsample),
    "pets_scratch_deep": _pets(pets_scratch_deep, size=128),
    "pets_scratch_transpose": _pets(pets_scratch_transpose, size=128),
    "pets_scratch_upsample": _pets(pets_scratch_upsample, size=128),
    "reid_small": NetworkEntry(
        "reid",
        lambda architecture, _: SmallPersonNetwork(
            Backbone("resnet_tiny", "none"), architecture.num_people
        ),
        {"height": 64, "width": 32, "num_people": 300},
    ),
    "vgg_triplet_gray": NetworkEntry(
        "reid",
        lambda architecture, _: vgg_triplet_gray(
            architecture.height,
            architecture.width,
            architecture.embedding_size,
            architecture.dropout,
        ),
        {"height": 64, "width": 32, "embedding_size": 32, "dropout": 0.2},
    ),
    "vgg_triplet_rgb": NetworkEntry(
        "reid",
        lambda architecture, _: vgg_triplet_rgb(
            architecture.height, architecture.width, architecture.embedding_size
        ),
        {"height": 64, "width": 32, "embedding_size": 301},
    ),
}

MAX_WEIGHTS = 2**30
"""4 GiB of float32; training holds them four times."""

MAX_ATTRIBUTE_VALUES = 10_000

MOST = {
    "height": MAX_PIXELS_A_SIDE,
    "width": MAX_PIXELS_A_SIDE,
    "num_people": 10_000_000,
    "num_classes": 1_000_000,
    "feature_size": MAX_FEATURES,
    "embedding_size": MAX_FEATURES,
}
"""The largest values of a network's fields; what is larger is a mistake, or an attack."""

DEFAULT_NETWORKS = {"reid": "apr", "pets": "pets_scratch_transpose", "attributes": "attributes_vgg"}
DEFAULT_BACKBONE = "resnet_tiny"
"""What a training takes where nothing is said; unlike a paper's ResNet-50 it suits a CPU."""


def build_model(name: str, *, weights: str = "none", **overrides: object) -> Network:
    """Build a network by name; without overrides it is that of its paper or report.

    Args:
        name: one of `NETWORKS`.
        weights: of the backbone: `none`, `imagenet` or a .safetensors file.
        overrides: fields of `Architecture`, of those that the network has.

    Raises:
        UserError: the name, a field, the backbone or the weights are not to be had.
    """
    return build_network(build_architecture(name, **overrides), weights=weights)


def build_architecture(name: str, **overrides: object) -> Architecture:
    """The description of a network; without overrides it is that of its paper or report.

    Raises:
        UserError: there is no such network, it has no such field, or a value cannot be.
    """
    fields = _blueprint(name).fields
    for field, value in overrides.items():
        if field not in fields:
            raise UserError(f"network {name!r} has no {field}: it has {', '.join(fields)}")
        _check_value(field, value, like=fields[field])
    architecture = Architecture(name=name, **(fields | overrides))
    _check_pixels(architecture)
    return architecture


def check_architecture(architecture: Architecture) -> None:
    """Refuse a description that somebody else wrote and that describes nothing.

    Raises:
        UserError: there is no such network, or a value cannot be.
    """
    has = _blueprint(architecture.name).fields
    for field in dataclass_fields(architecture):
        value = getattr(architecture, field.name)
        if field.name in has:
            _check_value(field.name, value, like=has[field.name])
        elif field.name != "name" and value != field.default:
            raise UserError(
                f"network {architecture.name!r} has no {field.name}: it has {', '.join(has)}"
            )
    _check_pixels(architecture)


def choose_architecture(
    task: str, name: str | None, said: dict[str, object], known: dict[str, object]
) -> Architecture:
    """The description of a network that a task is to train.

    Args:
        task: reid, pets or attributes.
        name: of the network; None is the task's own.
        said: fields that somebody asked for.
        known: fields that the data give; those that the network lacks are passed over.

    Raises:
        UserError: as `build_architecture`, or the network is for another task.
    """
    name = name or DEFAULT_NETWORKS[task]
    blueprint = _blueprint(name)
    if blueprint.task != task:
        trained = ", ".join(key for key, entry in NETWORKS.items() if entry.task == task)
        raise UserError(f"network {name!r} is not for {task}: choose one of {trained}")
    if "backbone" in blueprint.fields:
        said = {"backbone": DEFAULT_BACKBONE} | said
    given = {field: value for field, value in known.items() if field in blueprint.fields}
    return build_architecture(name, **said, **given)


def build_network(architecture: Architecture, *, weights: str = "none") -> Network:
    """Build the network of a description.

    Args:
        architecture: the description.
        weights: of the backbone: `none`, `imagenet` or a .safetensors file.

    Raises:
        UserError: the network or the weights are not to be had.
    """
    blueprint = _blueprint(architecture.name)
    if weights != "none" and not blueprint.pretrained:
        raise UserError(
            f"network {architecture.name!r} starts from random weights: "
            f"it has no backbone that {weights!r} could fill"
        )
    return blueprint.build(architecture, weights)


def build_without_memory(architecture: Architecture) -> Network:
    """Build the network of a description without memory for its weights."""
    with torch.device("meta"), _NothingDrawn():
        return build_network(architecture)


def check_parameter_count(architecture: Architecture) -> None:
    """Refuse a network of more weights than a machine has memory for, before they are made.

    Raises:
        UserError: says how many they are.
    """
    count = sum(weight.numel() for weight in build_without_memory(architecture).parameters())
    if count > MAX_WEIGHTS:
        raise UserError(
            f"network {architecture.name!r} of {architecture.height} x {architecture.width} pixels "
            f"has {count:,} weights, more than {MAX_WEIGHTS:,}: "
            "lower --network.height and --network.width"
        )


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the drawing of weights that have no memory, for which PyTorch imports much."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call what was called, but for the drawing."""
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def _blueprint(name: str) -> NetworkEntry:
    if name not in NETWORKS:
        raise UserError(f"network {quoted(name)} does not exist: {suggest_name(name, NETWORKS)}")
    return NETWORKS[name]


def _check_pixels(architecture: Architecture) -> None:
    """Refuse images of which a batch does not fit into memory."""
    if architecture.height * architecture.width > MAX_PIXELS:
        raise UserError(
            f"height {architecture.height} x width {architecture.width}: "
            f"expected {MAX_PIXELS:,} pixels or fewer"
        )


def _check_value(field: str, value: object, *, like: object) -> None:
    """Refuse a value that is not like the one a network has where nothing is said."""
    if isinstance(like, int):
        most = MOST[field]
        possible = type(value) is int and 0 < value <= most
        expected = f"a whole number from 1 to {most}"
    elif isinstance(like, AttributeSchema):
        possible = isinstance(value, AttributeSchema) and sum(value.sizes) <= MAX_ATTRIBUTE_VALUES
        expected = f"attributes of at most {MAX_ATTRIBUTE_VALUES} values in all"
    elif isinstance(like, float):
        possible = isinstance(value, int | float) and 0 <= value < 1
        expected = "0 or more and under 1"
    else:
        possible, expected = isinstance(value, type(like)), type(like).__name__
    if not possible:
        raise UserError(f"{field} {quoted(value)}: expected {expected}")
