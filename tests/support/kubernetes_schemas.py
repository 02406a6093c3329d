"""Validate descriptions of Kubernetes objects as an API server does that refuses unknown fields."""

import functools
import json
import lzma

import kubernetes_validate
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from support.paths import ROOT

KUBERNETES_VERSIONS = ("1.30", kubernetes_validate.latest_version())
"""The oldest that the README names, and the newest whose schemas are there."""

SCHEMAS = ROOT / "tests" / "support" / "crds"
CUSTOM = {"ray.io/v1": "kuberay", "monitoring.coreos.com/v1": "prometheus-operator"}
"""API versions, and the files of their schemas."""


def find_problem(resource, version=KUBERNETES_VERSIONS[0]):
    """Return what is wrong with an object in a version of Kubernetes; None if nothing is."""
    if resource.get("apiVersion") in CUSTOM:
        operator, kind = CUSTOM[resource["apiVersion"]], resource.get("kind")
        if kind not in custom_schemas(operator):
            return f"{operator} has no kind {kind}"
        error = best_match(custom_validator(operator, kind).iter_errors(resource))
        if error is not None:
            return f"{error.json_path}: {error.message}"
        # The definition leaves `metadata` to Kubernetes, where all kinds have the same.
        resource = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": resource["metadata"]}
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return error.message
    except KeyError as error:
        return f"{error} is missing"
    return None


@functools.cache
def custom_schemas(operator):
    return json.loads(lzma.decompress((SCHEMAS / f"{operator}.json.xz").read_bytes()))


@functools.cache
def custom_validator(operator, kind):
    schema = strict(custom_schemas(operator)[kind])
    schema["properties"]["metadata"] = {"type": "object"}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return Draft202012Validator(schema)


def strict(schema):
    """Return a schema that refuses fields which it does not name."""
    made = dict(schema)
    for name in ("items", "additionalProperties"):
        if isinstance(made.get(name), dict):
            made[name] = strict(made[name])
    if "properties" in made:
        made["properties"] = {name: strict(each) for name, each in made["properties"].items()}
    if made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
