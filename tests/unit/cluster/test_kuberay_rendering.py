"""The folders of cluster/kuberay render, with kubectl as with the renderer of the tests."""

import re
import shutil
import subprocess

import pytest
import yaml
from support.kuberay_folders import FOLDERS, KUBERAY
from support.kustomize import render

COMMAND = re.compile(r"(?:-k|kustomize) cluster/kuberay/(\S+)")


def by_name(resources):
    return sorted(resources, key=lambda each: (each["kind"], each["metadata"]["name"]))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubectl_renders_what_the_tests_check(folder):
    command = ["kubectl", "kustomize", str(KUBERAY / folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert by_name(yaml.safe_load_all(text)) == by_name(render(KUBERAY / folder))


def test_the_renderer_refuses_what_it_does_not_know(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: a-\n")
    with pytest.raises(ValueError, match="namePrefix"):
        render(tmp_path)


def test_the_nightly_schedule_creates_the_job_of_its_folder():
    """The README names the command that writes the file."""
    (job,) = render(KUBERAY / "overlays/nightly/job")
    job["metadata"]["generateName"] = f"{job['metadata'].pop('name')}-"
    written = yaml.safe_load((KUBERAY / "overlays/nightly/rayjob.yaml").read_text())
    assert written == job, "write overlays/nightly/rayjob.yaml again, as the README says"


def test_the_readme_names_folders_that_render():
    named = COMMAND.findall((KUBERAY / "README.md").read_text())
    assert {name.rstrip("/") for name in named} <= set(FOLDERS)
    assert {name for name in FOLDERS if name.startswith("overlays/")} <= set(named)
