"""Group the parameters of a network by their learning rate and weight decay."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from reidray.config import OptimizerConfig
from reidray.errors import UserError
from reidray.models.backbones.layer_numbers import number_layers

BACKBONE = "backbone"
"""Name of the module of a network that is its backbone; the rest, with the losses, is its head."""


def group_parameters(config: OptimizerConfig, network: nn.Module) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups of one weight decay and one `rate_factor`.

    Weight decay leaves out biases, the parameters of normalisation layers, and those that a module
    names in `no_weight_decay`, as timm's models name their position embeddings and class tokens.

    Raises:
        UserError: an option needs a backbone that the network lacks, or layers that it does not
            name.
    """
    factors = _rate_factors(config, network)
    undecayed = set(_names_by(network, "no_weight_decay"))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    trainable = [item for item in network.named_parameters() if item[1].requires_grad]
    for name, parameter in sorted(trainable, key=lambda item: item[1].ndim <= 1):
        decays = parameter.ndim > 1 and name not in undecayed
        key = (config.weight_decay if decays else 0.0, factors.get(name, config.head_rate_factor))
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "rate_factor": factor}
        for (decay, factor), parameters in groups.items()
    ]


def freezable_backbone(network: nn.Module) -> tuple[nn.Module, list[nn.Parameter]]:
    """Return the backbone of a network, and its parameters that can wait while the others train.

    They leave out those that a module names in `new_parameters`, which no pretrained weights fill.

    Raises:
        UserError: the network has no backbone, or nothing else that trains.
    """
    backbone = _backbone(network, "freeze_backbone")
    inner = {id(each) for each in backbone.parameters()}
    if all(id(each) in inner for each in network.parameters() if each.requires_grad):
        raise UserError(
            "`optimizer.freeze_backbone` leaves nothing to train in a network that is a backbone "
            "alone: leave it out, or choose another `network.name`"
        )
    new = set(_names_by(backbone, "new_parameters"))
    trainable = [item for item in backbone.named_parameters() if item[1].requires_grad]
    return backbone, [parameter for name, parameter in trainable if name not in new]


def check_optimizer(config: OptimizerConfig, network: nn.Module) -> None:
    """Check that a network has the backbone and the layers that an optimiser needs.

    Args:
        config: configuration of the optimiser.
        network: the network, which may have no memory for its weights.

    Raises:
        UserError: the network lacks them; the message names the field.
    """
    _rate_factors(config, network)
    if config.freeze_backbone:
        freezable_backbone(network)


def _rate_factors(config: OptimizerConfig, network: nn.Module) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter of the backbone, by its name."""
    if config.layer_decay < 1:
        layers = number_layers(_backbone(network, "layer_decay"))
        count = max(layers.values()) + 1
        return {
            f"{BACKBONE}.{name}": config.layer_decay ** (count - number)
            for name, number in layers.items()
        }
    if config.head_rate_factor == 1:
        return {}
    backbone = _backbone(network, "head_rate_factor")
    return {f"{BACKBONE}.{name}": 1.0 for name, _ in backbone.named_parameters()}


def _backbone(network: nn.Module, field: str) -> nn.Module:
    backbone = getattr(network, BACKBONE, None)
    if not isinstance(backbone, nn.Module):
        raise UserError(
            f"`optimizer.{field}` needs a network with a backbone and this network has none: "
            "leave it out, or choose another `network.name`"
        )
    return backbone


def _names_by(network: nn.Module, method: str) -> Iterator[str]:
    """Yield the names of the parameters that modules name by a method, as patterns."""
    for prefix, module in network.named_modules():
        named: Any = getattr(module, method, None)
        patterns = named() if callable(named) else ()
        for name, _ in module.named_parameters() if patterns else ():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                yield f"{prefix}.{name}" if prefix else name
