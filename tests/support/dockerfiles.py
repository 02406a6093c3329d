"""Read the instructions of a Dockerfile."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """An instruction of a Dockerfile.

    Attributes:
        stage: name of its stage; empty for the last one.
        kind: its first word, such as RUN.
        text: the words behind that.
    """

    stage: str
    kind: str
    text: str

    @property
    def command(self):
        """Return the shell command of RUN without the mounts of the build."""
        return re.sub(r"^(--mount=\S+\s+)+", "", self.text)


def read_instructions(path):
    """Return the instructions of a Dockerfile in their order."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found, stage = [], ""
    for line in filter(None, joined.splitlines()):
        kind, _, text = line.partition(" ")
        if kind == "FROM":
            stage = text.partition(" AS ")[2]
        found.append(Instruction(stage, kind, text.strip()))
    return found
