"""Write and restore a training as safetensors and JSON, which cannot run code."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from reidray.data.device_copies import copy_to_host
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.training.runs.checkpoint_files import (
    AVERAGE_FILE,
    BEST_FILE,
    FORMAT,
    NETWORK_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    check_checkpoint,
    read_state,
    write_checksums,
)
from reidray.training.steps.averaged_network import AveragedNetwork

JSON_KEYS = {"evals_without_improvement": "stale"}
"""Keys of `state.json` that differ from the names of the attributes."""


@dataclass
class TrainerState:
    """Hold the progress of a training.

    Attributes:
        epoch: number of finished epochs.
        step: number of finished steps.
        done: share of the training that is done, by its steps or by its time limit.
        finished: whether the training is complete.
        best_epoch: epoch with the best metric so far, from 1; 0 before any validation.
        best: metrics of that epoch.
        evals_without_improvement: number of validations since that epoch.
        records: losses, metrics and timings of each epoch.
    """

    epoch: int = 0
    step: int = 0
    done: float = 0.0
    finished: bool = False
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    evals_without_improvement: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the values under their keys in `state.json`."""
        return {JSON_KEYS.get(name, name): value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the state that a checkpoint holds.

        Raises:
            ValueError: a key is unknown, or a value is not of its type.
        """
        defaults = vars(cls())
        names = {JSON_KEYS.get(name, name): name for name in defaults}
        known = {names[key]: value for key, value in values.items() if key in names}
        is_valid = len(known) == len(values) and all(
            isinstance(value, type(defaults[name])) for name, value in known.items()
        )
        if not is_valid or not all(isinstance(row, dict) for row in known.get("records", [])):
            raise ValueError("a key is unknown, or a value is not of its type")
        return cls(**known)


@dataclass
class TrainingSnapshot:
    """Hold everything that changes while a network trains; `save` and `restore` a checkpoint.

    Attributes:
        network: network that trains.
        optimizer: optimiser of its parameters.
        settings: configuration of the training; a checkpoint of another one is refused.
        default_settings: values of settings that a checkpoint of an earlier version lacks.
        trainer_state: progress of the training.
        best_weights: weights of the best epoch, as they were validated.
        average: moving average of the weights; None for a training that keeps none.
    """

    network: nn.Module
    optimizer: Optimizer
    settings: dict[str, Any] = field(default_factory=dict)
    default_settings: dict[str, Any] = field(default_factory=dict)
    trainer_state: TrainerState = field(default_factory=TrainerState)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    average: AveragedNetwork | None = None

    @property
    def evaluated_network(self) -> nn.Module:
        """Return the network that is validated: the average where the training keeps one."""
        return self.network if self.average is None else self.average.network

    def save(self, folder: Path) -> None:
        """Write a checkpoint, with the checksums of its files, into an existing folder."""
        (folder / NETWORK_FILE).write_bytes(save(copy_weights(self.network)))
        (folder / BEST_FILE).write_bytes(save(self.best_weights))
        if self.average is not None:
            (folder / AVERAGE_FILE).write_bytes(save(copy_to_host(self.average.tensors())))
        tensors = {
            f"{index}.{name}": value
            for index, parameter in enumerate(_numbered_parameters(self.network, self.optimizer))
            for name, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }
        (folder / OPTIMIZER_FILE).write_bytes(save(copy_to_host(tensors)))
        state = {
            "format": FORMAT,
            "standing": self.trainer_state.to_json(),
            "settings": self.settings,
        }
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
        write_checksums(folder)

    def restore(self, folder: Path) -> None:
        """Restore a checkpoint.

        Raises:
            UserError: the checkpoint is damaged, or was written under another configuration, whose
                first difference the message names.
        """
        check_checkpoint(Location(str(folder)))
        state = read_state(Location(str(folder)))
        check_settings(state, self.settings, str(folder), defaults=self.default_settings)
        self.trainer_state = _parse_trainer_state(state, folder)
        weights = _read_tensors(folder / NETWORK_FILE)
        tensors = _read_tensors(folder / OPTIMIZER_FILE)
        self.best_weights = _read_tensors(folder / BEST_FILE)
        try:
            self.network.load_state_dict(weights)
            _load_optimizer_state(self.optimizer, self.network, _group_by_parameter(tensors))
            self._restore_average(folder / AVERAGE_FILE)
        except (RuntimeError, LookupError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"checkpoint {folder} is damaged, or of another network ({reason}): train again"
            ) from error

    def _restore_average(self, file: Path) -> None:
        """Restore the average, or begin it where a sweep changed the settings of the training."""
        if self.average is None:
            return
        if file.is_file():
            self.average.load(_read_tensors(file))
        else:
            self.average.restart()


def check_settings(
    state: dict[str, Any],
    settings: dict[str, Any],
    folder: str,
    *,
    defaults: dict[str, Any] | None = None,
) -> None:
    """Check that a checkpoint was written under the configuration that resumes it.

    Args:
        state: contents of the checkpoint's `state.json`.
        settings: configuration of the training that resumes.
        folder: folder of the checkpoint, for the message.
        defaults: values of settings that a checkpoint of an earlier version lacks.

    Raises:
        UserError: a setting differs; the message names the first one.
    """
    known = _flatten(json.loads(json.dumps(defaults or {})))
    before = known | _flatten(state["settings"])
    now = known | _flatten(json.loads(json.dumps(settings)))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise UserError(
                f"checkpoint {folder} was trained with {key} = {before.get(key)!r}, "
                f"not {now.get(key)!r}: "
                "resume with the configuration it began with"
            )


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a contiguous copy of a network's weights and buffers on the CPU."""
    return copy_to_host(network.state_dict())


def read_trainer_state(folder: Path) -> TrainerState:
    """Return the progress that a checkpoint holds, once all its files are checked.

    Raises:
        UserError: the checkpoint is damaged.
    """
    check_checkpoint(Location(str(folder)))
    return _parse_trainer_state(read_state(Location(str(folder))), folder)


def read_best_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of the best epoch that a checkpoint holds.

    Raises:
        UserError: the file is damaged.
    """
    return _read_tensors(folder / BEST_FILE)


def _parse_trainer_state(state: dict[str, Any], folder: Path) -> TrainerState:
    try:
        return TrainerState.from_json(state["standing"])
    except ValueError as error:
        raise UserError(f"checkpoint file {folder / STATE_FILE} is damaged: train again") from error


def _numbered_parameters(network: nn.Module, optimizer: Optimizer) -> list[nn.Parameter]:
    """Return the parameters of an optimiser in the order of their numbers in a checkpoint.

    The order does not depend on the groups of the optimiser, which differ by configuration.
    """
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    parameters = [each for each in network.parameters() if id(each) in held]
    return sorted(parameters, key=lambda parameter: parameter.ndim <= 1)


def _load_optimizer_state(
    optimizer: Optimizer, network: nn.Module, entries: dict[int, dict[str, Tensor]]
) -> None:
    """Load the state of each parameter of an optimiser, by its number in a checkpoint."""
    grouped = [each for group in optimizer.param_groups for each in group["params"]]
    positions = {id(each): position for position, each in enumerate(grouped)}
    numbered = _numbered_parameters(network, optimizer)
    state = {positions[id(numbered[number])]: entry for number, entry in entries.items()}
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    _match_layouts(optimizer)


def _match_layouts(optimizer: Optimizer) -> None:
    """Give the optimiser's tensors the memory format of their parameters, for fused kernels."""
    for parameter, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entry[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _group_by_parameter(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return the optimiser's tensors by the index of their parameter, then by name."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        entries.setdefault(int(index), {})[name] = value
    return entries


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(
            f"checkpoint {file} is damaged, or no safetensors file ({error}): train again"
        ) from error


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by their keys with dots, without those that are None."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value
    return flat
