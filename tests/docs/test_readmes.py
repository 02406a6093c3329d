"""The README files are true: their marked blocks run, their links lead somewhere."""

import doctest
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.forked_scripts import script_command
from support.paths import ROOT
from support.readme_blocks import read_blocks, readmes

PAGES = readmes()
BLOCKS = [block for page in PAGES for block in read_blocks(page)]
MAX_LINES = 150
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
DOTTED = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\([^`]*)?`")
FILE_SUFFIXES = {"csv", "json", "jsonl", "md", "py", "yaml"}
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def parameter(block):
    marks = [pytest.mark.slow] if "slow" in block.words else []
    marks += [pytest.mark.cluster] if {"ray", "slow"} & block.words else []
    return pytest.param(block, marks=marks, id=f"{block.readme}:{block.line}")


@pytest.fixture(scope="session")
def folders(inputs, tmp_path_factory):
    """Return the folder of a README file, whose blocks run in it one after the other."""
    made = {}

    def folder_of(readme):
        if readme not in made:
            made[readme] = tmp_path_factory.mktemp("readme") / "work"
            shutil.copytree(inputs, made[readme], symlinks=True)
        return made[readme]

    return folder_of


@pytest.mark.parametrize("block", [parameter(block) for block in BLOCKS])
@pytest.mark.timeout(1200)
def test_a_marked_block_runs(block, folders, request, tmp_path, monkeypatch):
    folder = folders(block.readme)
    monkeypatch.chdir(folder)
    if "ray" in block.words:
        monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue("ray_address"))
    if block.language == "python":
        found = run_python(block.text, tmp_path / "block.py")
    elif block.language == "console":
        return run_console(block, folder)
    else:
        found = run_shell(block.text, block.flags, folder)
    if block.output is not None:
        check_output(block.output, found)
    return None


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_LINES


def run_python(text, file):
    file.write_text(text)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(script_command(file), **streams, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    return done.stdout


def run_shell(text, flags, folder):
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent)])
    environment = os.environ | {
        "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
        "RUN_SCRIPT": " ".join(script_command()),
        "TRAINING_FLAGS": flags,
        "XDG_STATE_HOME": str(folder / "state"),
    }
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stderr + done.stdout


def run_console(block, folder):
    """Run each command of a block, which begins with `$`, and compare the lines that follow it."""
    for command in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = command.splitlines(keepends=True)
        end = next(n for n, line in enumerate(lines) if not line.endswith("\\\n")) + 1
        found = run_shell("".join(lines[:end]), block.flags, folder)
        if lines[end:]:
            check_output("".join(lines[end:]), found)


def check_output(expected, found):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(expected, found, options), found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files(page):
    text = FENCED.sub("", page.read_text())
    for target in (found["target"] for found in LINK.finditer(text)):
        path, _, heading = target.partition("#")
        if path.startswith(("http://", "https://", "mailto:")):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{target} is missing"
        if heading:
            assert heading in headings(linked), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_and_functions_that_a_page_names_exist(page):
    if page.name == "CHANGELOG.md":  # it names what is gone
        pytest.skip()
    packages = {path.name.removesuffix(".py") for path in (ROOT / "reidray").iterdir()}
    for name in DOTTED.findall(FENCED.sub("", page.read_text())):
        if name.split(".")[-1] in FILE_SUFFIXES:
            continue
        name = name.removeprefix("reidray.")
        if name.split(".")[0] in packages:
            pkgutil.resolve_name(f"reidray.{name}")


def headings(page):
    """Return the anchors that GitHub makes of the headings of a page."""
    lines = FENCED.sub("", page.read_text()).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_rows_of_a_table_have_as_many_cells_as_its_head(page):
    columns = None
    for line in FENCED.sub("", page.read_text()).splitlines():
        if line.startswith("|"):
            assert columns or not line.startswith("|-"), f"{line} has no head above it"
            cells = len(re.findall(r"(?<!\\)\|", line)) - 1
            assert columns in (None, cells), line
            columns = cells
        else:
            columns = None
