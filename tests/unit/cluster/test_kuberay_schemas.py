"""Every object of cluster/kuberay has fields that Kubernetes and KubeRay know, and no others."""

import copy
import hashlib
import json
import random

import pytest
from support.kuberay_folders import ALL_DOCUMENTS
from support.kubernetes_schemas import KUBERNETES_VERSIONS, SCHEMAS, find_problem
from support.misspelt_keys import key_paths, with_typo

FREE = {"annotations", "data", "labels", "limits", "matchLabels", "rayStartParams", "requests"}
"""Mappings in which any key is allowed."""

DISTINCT = list({json.dumps(each, sort_keys=True): each for _, each in ALL_DOCUMENTS}.values())


def named(resource):
    return f"{resource['kind']}-{next(iter(resource['metadata'].values()))}"


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("resource", DISTINCT, ids=named)
def test_every_field_is_known(resource, version):
    assert find_problem(resource, version) is None


@pytest.mark.parametrize("resource", DISTINCT, ids=named)
def test_a_misspelt_key_is_refused_at_any_depth(resource):
    """At each depth, another key is chosen in each document."""
    chosen = random.Random(json.dumps(resource))
    by_depth = {}
    for path in key_paths(resource, free=FREE):
        by_depth.setdefault(len(path), []).append(path)
    assert len(by_depth) >= 2
    for paths in by_depth.values():
        path = chosen.choice(paths)
        assert find_problem(with_typo(resource, path)), path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "authOptions", "mode"), "tokens"),
        (("spec", "workerGroupSpecs", 0, "minReplicas"), "0"),
        (("spec", "autoscalerOptions", "version"), "v3"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
    ],
)
def test_a_wrong_value_is_refused(path, value):
    cluster = next(each for each in DISTINCT if each["kind"] == "RayCluster")
    changed = copy.deepcopy(cluster)
    parent = changed
    for word in path[:-1]:
        parent = parent[word]
    parent[path[-1]] = value
    assert find_problem(changed)


def test_the_schemas_are_those_of_the_recorded_sources():
    sources = json.loads((SCHEMAS / "sources.json").read_text())
    assert sources["version"] == "v1.7.0"
    operator = json.loads((SCHEMAS / "prometheus-operator-source.json").read_text())
    digests = {*sources["sha256"].values(), operator["sha256"]}
    assert set(map(len, digests)) == {hashlib.sha256().digest_size * 2}
