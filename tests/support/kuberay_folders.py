"""Find what the folders of cluster/kuberay render to."""

import functools

import yaml

from support.kustomize import render
from support.paths import ROOT

KUBERAY = ROOT / "cluster" / "kuberay"
FOLDERS = sorted(
    path.parent.relative_to(KUBERAY).as_posix() for path in KUBERAY.rglob("kustomization.yaml")
)
CLUSTER_KINDS = {
    "RayCluster": ("spec",),
    "RayJob": ("spec", "rayClusterSpec"),
    "RayCronJob": ("spec", "jobTemplate", "rayClusterSpec"),
}
JOB_KINDS = {"RayJob": ("spec",), "RayCronJob": ("spec", "jobTemplate")}


@functools.cache
def documents(folder):
    """Return the resources of a folder, and those that its ConfigMaps hold as YAML."""
    rendered = render(KUBERAY / folder)
    held = [
        yaml.safe_load(text)
        for each in rendered
        if each["kind"] == "ConfigMap"
        for name, text in each["data"].items()
        if name.endswith(".yaml")
    ]
    return (*rendered, *held)


ALL_DOCUMENTS = [
    (f"{folder}:{each['kind']}:{place}", each)
    for folder in FOLDERS
    for place, each in enumerate(documents(folder))
]
"""A name and a resource each."""


def parts(kinds):
    """Return a name and the part of each resource of some kinds that lies at a path."""
    found = []
    for name, each in ALL_DOCUMENTS:
        if each["kind"] in kinds:
            part = each
            for word in kinds[each["kind"]]:
                part = part[word]
            found.append((name, part))
    return found


def descriptions_of(value, key):
    """Yield every mapping below a value that has a key."""
    if isinstance(value, dict):
        if key in value:
            yield value
        for each in value.values():
            yield from descriptions_of(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from descriptions_of(each, key)
