"""The packages import downwards only, and stay small enough to read."""

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import reidray

ROOT = Path(reidray.__file__).parent
LAYERS = (
    ("cli",),
    ("tuning", "comparison", "studies", "quickstart", "quickstart_folder"),
    ("training", "scoring", "evaluation"),
    ("inference", "reporting", "baselines", "export"),
    ("retrieval", "metrics", "models", "losses"),
    ("data", "demo"),
    ("storage", "config", "ray_runtime", "head_checks", "cluster_resources", "monitoring"),
    ("interrupts", "progress", "terminal", "suggestions", "registry", "errors"),
)
"""The highest first. A package imports from its own layer and from those below."""

WITHOUT_RAY = ("retrieval", "metrics", "models", "losses", "training.loop")
"""Packages and modules that PyTorch alone can run."""

ALLOWED_TO_USE_RAY = ("retrieval.distributed",)

MAX_MODULES = 12
MAX_SHARE = 1 / 6
ONE_NAME = {"__init__", "definition", "quickstart", "report", "task"}
"""Names that modules of several packages may share, as they mean the same in each."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Return the full names that a module imports, at its top and within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def package_of(name: str) -> str:
    return name.removeprefix("reidray.").split(".")[0]


def layer_of(package: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if package in names)


IMPORTS = {
    name: {each for each in imported(path) if each.startswith("reidray.")}
    for name, path in MODULES.items()
    if name
}


def test_no_package_imports_from_above():
    upward = [
        f"{name} imports {each}"
        for name, wanted in IMPORTS.items()
        for each in sorted(wanted)
        if package_of(each) in {name for layer in LAYERS for name in layer}
        if layer_of(package_of(each)) < layer_of(package_of(name))
    ]
    assert upward == []


def test_the_readme_names_the_layers():
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    layers = {(int(number), name) for number, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    assert layers == {(n, name) for n, names in enumerate(LAYERS, 1) for name in names}


def test_packages_form_no_cycle():
    graph = {}
    for name, wanted in IMPORTS.items():
        package = package_of(name)
        graph.setdefault(package, set()).update(map(package_of, wanted))
    for package, wanted in graph.items():
        wanted.discard(package)
    TopologicalSorter(graph).prepare()


def test_modules_form_no_cycle():
    graph = {
        name: {
            each if each in MODULES else each.rpartition(".")[0]
            for each in (full.removeprefix("reidray.") for full in wanted)
        }
        - {name}
        for name, wanted in IMPORTS.items()
    }
    TopologicalSorter(graph).prepare()


def test_a_package_holds_a_dozen_modules_at_most():
    counts = Counter(path.parent for path in MODULES.values() if path.stem != "__init__")
    large = {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > MAX_MODULES}
    assert large == {}


def test_no_package_holds_more_than_a_sixth_of_the_lines():
    lines = Counter()
    for name, path in MODULES.items():
        lines[package_of(name)] += len(path.read_text().splitlines())
    large = {name: n for name, n in lines.items() if n > MAX_SHARE * lines.total()}
    assert large == {}


def test_two_modules_do_not_share_a_name():
    names = Counter(path.stem for path in MODULES.values())
    assert {name for name, count in names.items() if count > 1} <= ONE_NAME


@pytest.mark.parametrize("start", WITHOUT_RAY)
def test_what_needs_pytorch_alone_imports_no_ray(start):
    names = [name for name in MODULES if name == start or name.startswith(f"{start}.")]
    for name in set(names) - set(ALLOWED_TO_USE_RAY):
        assert not {each for each in imported(MODULES[name]) if each.split(".")[0] == "ray"}, name


LIGHT_TASKS = (
    "reidray.inference.distributed.embedding_work",
    "reidray.scoring.stages.written_rows",
)
"""Modules of tasks beside GPUs, one process for each CPU, which need not hold PyTorch."""


@pytest.mark.parametrize("module", LIGHT_TASKS)
def test_processes_that_decode_or_write_for_gpus_do_not_import_pytorch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
