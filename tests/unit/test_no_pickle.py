"""No code of ours reads anything that runs code while it is read."""

import ast
from functools import cache

import pytest
from support.paths import ROOT

RUNS_CODE = {
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "pickle",
    "ray.cloudpickle",
    "shelve",
    "builtins.eval",
    "builtins.exec",
    "numpy.lib.format.read_array",
    "pandas.read_pickle",
    "ray.tune.Tuner.restore",
    "sklearn.externals",
    "torch.hub",
    "torch.jit.load",
    "torch.load",
    "torch.package",
    "yaml.full_load",
    "yaml.full_load_all",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
}
"""Modules and functions that do."""

UNPICKLING = "reidray/models/weights/unpickling.py"

THOSE_THAT_MUST = {
    ("reidray/tuning/tuner.py", name)
    for name in ("ray.tune.Tuner.restore", "pickle", "pickle.UnpicklingError")
} | {(UNPICKLING, name) for name in ("torch.load", "pickle", "pickle.UnpicklingError")}
"""Ray Tune keeps a sweep as pickles; `jobs/tune.py --resume` says so, and catches their error. The
program that turns pickles of weights into safetensors is no part of a job: see below."""


class Uses(ast.NodeVisitor):
    """Collect the full names that a module uses, such as `torch.load`, for any form of import."""

    def __init__(self, source):
        self._names, self.found = {"eval": "builtins.eval", "exec": "builtins.exec"}, set()
        self.visit(ast.parse(source))

    def visit_Import(self, node):
        for alias in node.names:
            self.found.add(alias.name)
            top = alias.name.partition(".")[0]
            self._names[alias.asname or top] = alias.name if alias.asname else top

    def visit_ImportFrom(self, node):
        for alias in node.names:
            self._names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            self.found |= {node.module, f"{node.module}.{alias.name}"}

    def visit_Name(self, node):
        self.found.add(self._names.get(node.id, node.id))

    def visit_Attribute(self, node):
        self.found.add(self._in_full(node))
        self.generic_visit(node)

    def visit_Call(self, node):
        if self._in_full(node.func) == "numpy.load":
            settings = {setting.arg: setting.value for setting in node.keywords}
            allowed = settings.get("allow_pickle")
            if not (isinstance(allowed, ast.Constant) and allowed.value is False):
                self.found.add("numpy.load without allow_pickle=False")
        self.generic_visit(node)

    def _in_full(self, node):
        if isinstance(node, ast.Attribute):
            return f"{self._in_full(node.value)}.{node.attr}"
        return self._names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


@cache
def names_used(source):
    """Return the full names that a module uses; parse it once for all tests."""
    return frozenset(Uses(source).found)


def dangers(source):
    found = names_used(source)
    named = {name for name in found if name in RUNS_CODE or name.startswith("numpy.load without")}
    return named | {name for name in found if name.partition(".")[0] in RUNS_CODE}


def sources():
    for folder in ("reidray", "jobs", "cluster"):
        for path in sorted((ROOT / folder).rglob("*")):
            is_script = path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python")
            if path.suffix == ".py" or is_script:
                yield path


def test_nothing_reads_what_could_run_code_but_a_sweep_and_the_program_for_pickles():
    read = {path.relative_to(ROOT).as_posix(): dangers(path.read_text()) for path in sources()}
    assert len(read) > 100
    assert "cluster/local/up" in read
    assert {(file, name) for file, names in read.items() for name in names} == THOSE_THAT_MUST


def test_the_program_for_pickles_makes_tensors_only_and_no_module_imports_it():
    program = ast.parse((ROOT / UNPICKLING).read_text())
    calls = [node for node in ast.walk(program) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    settings = [{each.arg: ast.unparse(each.value) for each in call.keywords} for call in loads]
    assert settings == [{"map_location": "'cpu'", "weights_only": "True"}]
    uses = [node for node in ast.walk(program) if isinstance(node, ast.Attribute)]
    assert [ast.unparse(use) for use in uses].count("torch.load") == 1
    module = UNPICKLING.removesuffix(".py").replace("/", ".")
    assert not [path for path in sources() if module in names_used(path.read_text())]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads as read", "pickle"),
        ("import torch as t\nt.load('a')", "torch.load"),
        ("from torch import load\nload('a', weights_only=True)", "torch.load"),
        ("import torch\nread = torch.load", "torch.load"),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("from yaml import unsafe_load", "yaml.unsafe_load"),
        ("import ray\nray.cloudpickle.loads(b'')", "ray.cloudpickle"),
        ("from joblib import load", "joblib"),
        ("import numpy as np\nnp.load('a.npy')", "numpy.load without allow_pickle=False"),
        ("import numpy as np\nnp.load('a', allow_pickle=x)", "numpy.load without"),
        ("def f():\n    import dill\n    return dill", "dill"),
        ("eval('1')", "builtins.eval"),
        ("from ray import tune\ntune.Tuner.restore('a')", "ray.tune.Tuner.restore"),
    ],
)
def test_what_runs_code_is_found_under_any_name(source, named):
    assert any(found.startswith(named) for found in dangers(source))


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load('a', allow_pickle=False)",
        "import yaml\nyaml.safe_load('a: 1')",
        "from safetensors.torch import load_file\nload_file('a')",
        "network.eval()",
    ],
)
def test_what_is_harmless_is_not_found(source):
    assert dangers(source) == set()
