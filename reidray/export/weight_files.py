"""Write weights alone: those of a network, and those of a backbone by the names of timm."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from reidray.config.options.person_networks import BackboneOptions
from reidray.errors import UserError
from reidray.models import LoadedModel, build_network
from reidray.models.backbones import BACKBONES, Backbone
from reidray.models.backbones.timm_bodies import create_timm_body, without_memory


def write_weights(weights: Mapping[str, Tensor], metadata: dict[str, str], file: Path) -> None:
    """Write weights as a safetensors file."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    file.write_bytes(save(plain, metadata))


def check_network_file(model: LoadedModel, file: Path) -> None:
    """Check that a file holds the weights of a model, bit for bit."""
    network = build_network(model.architecture)
    network.load_state_dict(load_file(file))
    _check_same(model.network, network)


def check_timm_file(model: LoadedModel, file: Path) -> None:
    """Check that timm's model loads a file, and then has the weights of the backbone."""
    body = create_timm_body(model.architecture.options.backbone, model.architecture.size)
    body.load_state_dict(load_file(file), strict=True)
    _check_same(find_timm_body(model), body)


def find_timm_body(model: LoadedModel) -> nn.Module:
    """Return the part of a network that is a model of timm.

    Raises:
        UserError: the network has no backbone, timm has no such model, or this project has changed
            its layers.
    """
    backbone = getattr(model.network, "backbone", None)
    name = getattr(model.architecture.options, "backbone", None)
    if not isinstance(backbone, Backbone) or not isinstance(name, str):
        raise UserError(
            f"`format=timm`: network {model.architecture.name!r} has no backbone of timm; use "
            "`format=safetensors`"
        )
    if name in BACKBONES:
        raise UserError(
            f"`format=timm`: timm has no model {name!r}, which is a backbone of reidray; use "
            "`format=safetensors`"
        )
    with without_memory():
        expected = create_timm_body(name, model.architecture.size).state_dict()
    found = backbone.body.state_dict()
    differing = [
        key
        for key in expected.keys() | found.keys()
        if key not in expected or key not in found or expected[key].shape != found[key].shape
    ]
    if differing:
        raise UserError(
            f"`format=timm`: the backbone {name} differs from timm's in {min(differing)}; use "
            "`format=safetensors`"
        )
    return backbone.body


def describe_timm_model(model: LoadedModel) -> dict[str, str]:
    """Return the name and the arguments with which `timm.create_model` makes the model."""
    body = find_timm_body(model)
    arguments: dict[str, Any] = {"num_classes": 0}
    with without_memory():
        default = create_timm_body(model.architecture.options.backbone).state_dict()
    if any(value.shape != default[key].shape for key, value in body.state_dict().items()):
        arguments["img_size"] = list(model.architecture.size)  # position embeddings for this size
    return {
        "timm_model": model.architecture.options.backbone,
        "timm_arguments": json.dumps(arguments),
    }


def find_timm_differences(model: LoadedModel) -> list[str]:
    """Return what changes the features of a backbone, and timm's model with its weights lacks."""
    backbone: Any = model.network.backbone
    options: BackboneOptions = backbone.options
    differences = ["a last stage of stride 1"] if options.last_stride == 1 else []
    if options.pooling != "own":
        differences.append(f"the pooling {options.pooling}")
    return differences


def _check_same(expected: nn.Module, found: nn.Module) -> None:
    """Check that two modules have the same weights."""
    weights = found.state_dict()
    for name, value in expected.state_dict().items():
        if not torch.equal(value.cpu(), weights[name].cpu()):
            raise RuntimeError(f"{name} was not written as it is")
