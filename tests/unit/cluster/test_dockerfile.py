"""The image of the nodes: clean, without root, and made from the lock file."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.dockerfiles import read_instructions
from support.paths import ROOT

from reidray.ray_runtime import WORKER_SETTINGS

DOCKERFILE = ROOT / "cluster" / "Dockerfile"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def instructions():
    return read_instructions(DOCKERFILE)


def of_kind(instructions, kind):
    return [each for each in instructions if each.kind == kind]


def environment(instructions, stages):
    """Return the variables that the stages set."""
    text = " ".join(each.text for each in of_kind(instructions, "ENV") if each.stage in stages)
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', text)}


def test_hadolint_finds_nothing():
    command = [SCRIPTS / "hadolint", DOCKERFILE]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_nodes_run_as_a_user_with_a_home(instructions):
    assert of_kind(instructions, "USER")[-1].text == "1000:1000"
    assert "useradd --uid 1000 --create-home" in of_kind(instructions, "RUN")[0].text
    assert environment(instructions, {""})["HOME"] == "/home/reidray"


def test_the_launcher_finds_the_programs_that_it_calls(instructions):
    assert {"openssh-client", "rsync"} <= {
        word.partition("=")[0] for word in of_kind(instructions, "RUN")[0].text.split()
    }


def test_login_shells_find_the_environment(instructions):
    assert environment(instructions, {""})["PATH"] == "/opt/reidray/bin:$PATH"
    assert environment(instructions, {"system"})["UV_PROJECT_ENVIRONMENT"] == "/opt/reidray"
    profile = 'echo "PATH=/opt/reidray/bin:\\$PATH" > /etc/profile.d/reidray.sh'
    assert profile in of_kind(instructions, "RUN")[0].text


def test_the_image_sets_what_a_ray_of_a_job_sets(instructions):
    found = environment(instructions, {""})
    assert found.items() >= {**WORKER_SETTINGS, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}.items()
    assert environment(instructions, {"cuda"}) == {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }


def test_the_agent_of_a_node_answers_for_its_health():
    address = "http://127.0.0.1:52365/api/local_raylet_healthz"
    assert f"r.urlopen('{address}', timeout=9)" in DOCKERFILE.read_text()


def test_the_image_holds_nothing_that_a_build_does_not_need():
    lines = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().splitlines()
    first, *rules = [line for line in lines if not line.startswith("#")]
    assert first == "*"
    kept = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert kept == {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "jobs", "reidray"}
    assert "**/__pycache__" in rules


def test_the_code_is_copied_after_the_packages_are_installed(instructions):
    copies = [each.text.split()[-2:] for each in of_kind(instructions, "COPY")]
    assert copies == [["uv.lock", "./"], [".", "."]]
    packages, project = (each for each in of_kind(instructions, "RUN") if "uv sync" in each.text)
    first, last = (instructions.index(each) for each in of_kind(instructions, "COPY"))
    assert first < instructions.index(packages) < last < instructions.index(project)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("device", "cloud"), [("cpu", "aws"), ("cuda", "")])
def test_the_steps_install_the_locked_environment(device, cloud, instructions, tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    variables = environment(instructions, {"system", device}) | {
        "CLOUD": cloud,
        "UV_PROJECT_ENVIRONMENT": str(tmp_path / "environment"),
        "UV_LINK_MODE": "hardlink",
        "UV_COMPILE_BYTECODE": "0",
        "UV_PYTHON": sys.executable,
    }
    for each in (each for each in instructions if each.stage == ""):
        if each.kind == "COPY":
            copy_into(app, each.text)
        elif each.kind == "RUN":
            run(["bash", "-ec", each.command], app, variables)
    python = tmp_path / "environment" / "bin" / "python"
    run([python, "-c", "import torch, timm; timm.create_model('resnet18')"], app, {})
    run([python.with_name("reidray"), "--version"], app, {})
    run([python.with_name("ray"), "--version"], app, {})
    found = {name: is_installed(python, name) for name in ("boto3", "triton", "pytest")}
    assert found == {"boto3": cloud == "aws", "triton": device == "cuda", "pytest": False}


def copy_into(app, words):
    names = ("pyproject.toml", "uv.lock")
    if words.endswith(" . ."):
        names = ("README.md", "LICENSE", "jobs", "reidray")
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, app / name)


def run(command, folder, variables):
    outside = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=folder, env=outside | variables, **streams, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"


def is_installed(python, name):
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0
