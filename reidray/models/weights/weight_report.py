"""Report which weights of a file a network took, which it did not, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

MAX_NAMED = 3
"""Names that a line of the log shows of a group."""


@dataclass(frozen=True)
class WeightNote:
    """Hold why one weight was not taken, or how it was changed.

    Attributes:
        name: name of the weight, in the network where it is missing there, in the file otherwise.
        reason: why it was not taken, or how it was changed.
    """

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WeightReport:
    """Hold what became of the weights of a file.

    Attributes:
        source: file, model directory or name on a hub.
        kind: `safetensors`, `torch.save`, `model directory` or `imagenet`.
        file_names: prefix of the file's names of the weights, and the convention of the names.
        network_names: prefix that stands for it in the network's names.
        match: share in 0..1 of the parameters of the backbone that the file fills, or share of the
            parameters of the file that the backbone takes, whichever is smaller.
        tensors: number of tensors that were loaded.
        parameters: number of parameters of the network that were loaded.
        changed: weights that were resized for another size of images, or copied to another layer.
        missing: weights of the network that keep their random values.
        left_out: weights of the file that the network has no place for.
        notes: other facts that the user should know.
    """

    source: str
    kind: str
    file_names: str
    network_names: str
    match: float
    tensors: int
    parameters: int
    changed: tuple[WeightNote, ...] = ()
    missing: tuple[WeightNote, ...] = ()
    left_out: tuple[WeightNote, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return two or three lines for the log."""
        renamed = f", {self.file_names} as {self.network_names}" if self.network_names else ""
        changed = f", {len(self.changed)} of them resized or copied" if self.changed else ""
        first = (
            f"weights of {self.source} ({self.kind}): {self.match:.1%} match, {self.tensors:,} "
            f"tensors with {self.parameters:,} parameters loaded{changed}{renamed}"
        )
        rest = [
            f"weights {title}: {'; '.join(_group(notes))}"
            for title, notes in (
                ("not in the file", self.missing),
                ("of the file left out", self.left_out),
            )
            if notes
        ]
        return [first, *rest, *(f"weights: {note}" for note in self.notes)]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the report that `to_json` returned.

        Raises:
            TypeError: a key is unknown or missing.
        """
        noted = ("changed", "missing", "left_out")
        lists = {key: tuple(WeightNote(**each) for each in values[key]) for key in noted}
        return cls(**{**values, **lists, "notes": tuple(values["notes"])})


def _group(notes: Sequence[WeightNote]) -> list[str]:
    """Return a phrase for each reason, with the first names that have it."""
    phrases = []
    for reason, count in Counter(note.reason for note in notes).most_common():
        named = [note.name for note in notes if note.reason == reason][:MAX_NAMED]
        others = f" and {count - len(named)} others" if count > len(named) else ""
        phrases.append(f"{', '.join(named)}{others} ({reason})")
    return phrases
