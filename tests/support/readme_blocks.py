"""Read the marked blocks of README files.

A line `<!-- test -->` directly before a fence of bash, console or python marks a block that
`tests/docs` runs. Words after a colon say more: `<!-- test: slow -->` runs the block with
`-m slow` only, `<!-- test: ray -->` gives it a running Ray, and `<!-- test: with --epochs 1 -->`
adds flags to each command that trains. `<!-- test: output -->` marks a fence that holds the output
of the block before it, in which `...` stands for any text.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from support.paths import ROOT

MARK = re.compile(r"^<!-- test(?:: (?P<words>.*?))? -->$")
FENCE = re.compile(r"^```(?P<language>\w*)$")
WORDS = {"slow", "ray", "output"}


@dataclass(frozen=True)
class Block:
    """A block of a README file.

    Attributes:
        readme: path of the file, relative to the repository.
        line: number of the line of the fence, from 1.
        language: word behind the fence.
        text: content of the block.
        words: words of the mark, of `WORDS`.
        flags: flags for each command that trains.
        output: output that the file shows; None where it shows none.
    """

    readme: str
    line: int
    language: str
    text: str
    words: frozenset[str] = frozenset()
    flags: str = ""
    output: str | None = None


def readmes():
    """Return the Markdown files of the repository, without templates."""
    folders = (".github", "cluster", "jobs", "reidray", "tests")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.md")]
    pages = [path for path in found if "templates" not in path.parts]
    return [ROOT / "README.md", *sorted(pages)]


def read_blocks(path: Path) -> list[Block]:
    """Return the marked blocks of a file in their order.

    Raises:
        ValueError: a mark is not directly before a fence, or has unknown words.
    """
    lines = path.read_text().splitlines()
    readme = path.relative_to(ROOT).as_posix()
    blocks: list[Block] = []
    for number, line in enumerate(lines):
        if not (mark := MARK.match(line)):
            continue
        fence = FENCE.match(lines[number + 1])
        if not fence:
            raise ValueError(f"{readme}:{number + 1}: no fence after the mark")
        end = lines.index("```", number + 2)
        words, _, flags = (mark["words"] or "").partition("with ")
        block = Block(
            readme=readme,
            line=number + 2,
            language=fence["language"],
            text="\n".join(lines[number + 2 : end]) + "\n",
            words=frozenset(words.split()),
            flags=flags,
        )
        if unknown := block.words - WORDS:
            raise ValueError(f"{readme}:{number + 1}: unknown words {sorted(unknown)}")
        if "output" in block.words:
            blocks[-1] = replace(blocks[-1], output=block.text)
        else:
            blocks.append(block)
    return blocks
