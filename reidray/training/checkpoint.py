"""A training stopped in the middle, as safetensors and JSON: nothing in it can run."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.training.runs.checkpoint_files import (
    BEST_FILE,
    FORMAT,
    NETWORK_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    check_whole,
    read_state,
    write_checksums,
)

JSON_KEYS = {"evals_without_improvement": "stale"}
"""Keys of `state.json` that differ from the names of the attributes."""


@dataclass
class TrainerState:
    """How far a training has come.

    Attributes:
        epoch: epochs finished.
        step: steps taken.
        finished: whether nothing is left to do.
        best_epoch: the epoch, from 1, with the best figure so far; 0 before any.
        best: the figures of that epoch.
        evals_without_improvement: validations since then.
        records: the figures of each epoch.
    """

    epoch: int = 0
    step: int = 0
    finished: bool = False
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    evals_without_improvement: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the values under the keys that a checkpoint has for them."""
        return {JSON_KEYS.get(key, key): value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the state that a checkpoint holds.

        Raises:
            ValueError: a key is unknown, or a value is not of its type.
        """
        names = {JSON_KEYS.get(key, key): key for key in vars(cls())}
        known = {names[key]: value for key, value in values.items() if key in names}
        state = cls(**known)
        sound = len(known) == len(values) and all(
            isinstance(value, type(default))
            for value, default in zip(vars(state).values(), vars(cls()).values(), strict=True)
        )
        if not (sound and all(isinstance(record, dict) for record in state.records)):
            raise ValueError("a key is unknown, or a value is not of its type")
        return state


@dataclass
class TrainingSnapshot:
    """All that changes while a network trains.

    Attributes:
        best_weights: the network's weights at the best epoch.
        settings: the configuration it trains under; a checkpoint goes on under no other.
    """

    network: nn.Module
    optimizer: Optimizer
    settings: dict[str, Any]
    trainer_state: TrainerState = field(default_factory=TrainerState)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write a checkpoint, with the checksums of its files, into an existing folder."""
        (folder / NETWORK_FILE).write_bytes(save(copy_weights(self.network)))
        (folder / BEST_FILE).write_bytes(save(self.best_weights))
        optimizer = self.optimizer.state_dict()
        tensors = {
            f"{index}.{name}": value.detach().cpu().contiguous()
            for index, entry in optimizer["state"].items()
            for name, value in entry.items()
            if isinstance(value, Tensor)
        }
        (folder / OPTIMIZER_FILE).write_bytes(save(tensors))
        state = {
            "format": FORMAT,
            "standing": self.trainer_state.to_json(),
            "settings": self.settings,
        }
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
        write_checksums(folder)

    def restore(self, folder: Path) -> None:
        """Take up a checkpoint.

        Raises:
            UserError: it was written under another configuration, of which the first difference
                is named, or it is damaged.
        """
        check_whole(Location(str(folder)))
        state = read_state(Location(str(folder)))
        check_settings(state, self.settings, str(folder))
        self.trainer_state = _trainer_state_of(state, folder)
        network = _read_tensors(folder / NETWORK_FILE)
        tensors = _read_tensors(folder / OPTIMIZER_FILE)
        self.best_weights = _read_tensors(folder / BEST_FILE)
        try:
            self.network.load_state_dict(network)
            optimizer = self.optimizer.state_dict() | {"state": _optimizer_state(tensors)}
            self.optimizer.load_state_dict(optimizer)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"checkpoint {folder} is damaged, or of another network ({reason}): train again"
            ) from error


def check_settings(state: dict[str, Any], settings: dict[str, Any], folder: str) -> None:
    """Refuse a checkpoint that was written under another configuration.

    Args:
        state: what its `state.json` holds.
        settings: the configuration to go on under.
        folder: of the checkpoint, for the message.

    Raises:
        UserError: names the first difference.
    """
    then = _without_unset(state["settings"])
    now = _without_unset(json.loads(json.dumps(settings)))
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            raise UserError(
                f"checkpoint {folder} was trained with {key} = {then.get(key)!r}, "
                f"not {now.get(key)!r}: "
                "resume with the configuration it began with"
            )


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return the tensors of a checkpoint's optimiser by parameter, then by name."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        entries.setdefault(int(index), {})[name] = value
    return entries


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights and buffers on the CPU, apart from the network."""
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


def read_trainer_state(folder: Path) -> TrainerState:
    """Return how far a checkpoint had come.

    Raises:
        UserError: the checkpoint is damaged.
    """
    check_whole(Location(str(folder)))
    return _trainer_state_of(read_state(Location(str(folder))), folder)


def read_best(folder: Path) -> tuple[TrainerState, dict[str, Tensor]]:
    """Return how far a checkpoint had come, and the weights of its best epoch.

    Raises:
        UserError: the checkpoint is damaged.
    """
    return read_trainer_state(folder), _read_tensors(folder / BEST_FILE)


def _trainer_state_of(state: dict[str, Any], folder: Path) -> TrainerState:
    try:
        return TrainerState.from_json(state["standing"])
    except ValueError as error:
        raise UserError(f"checkpoint file {folder / STATE_FILE} is damaged: train again") from error


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(
            f"checkpoint {file} is damaged, or no safetensors file ({error}): train again"
        ) from error


def _without_unset(settings: Any) -> Any:
    """Return settings less those that are None, which an earlier version may not have known."""
    if not isinstance(settings, dict):
        return settings
    return {key: _without_unset(value) for key, value in settings.items() if value is not None}
