"""Reduce the models of the Prometheus operator to the schemas that tests validate against.

The models are a package of PyPI, made from the CustomResourceDefinitions. Run the script with the
wheel of this package, in an environment that it is installed in:

    uv run --no-project --with cloudcoil --with WHEEL tests/support/crds/reduce_prometheus.py WHEEL

It writes `prometheus-operator.json.xz`, the schema of each kind without descriptions, and
`prometheus-operator-source.json`, the version and the SHA-256 digest of the wheel, both beside this
script.
"""

import hashlib
import json
import lzma
import sys
from importlib.metadata import version
from pathlib import Path

from cloudcoil.models.prometheus_operator import v1

FOLDER = Path(__file__).parent
KINDS = ("PodMonitor", "PrometheusRule")
PACKAGE = "cloudcoil-models-prometheus-operator"
KEPT = {
    "additionalProperties",
    "anyOf",
    "const",
    "enum",
    "items",
    "maximum",
    "maxLength",
    "minimum",
}
KEPT |= {"minItems", "minLength", "pattern", "properties", "required", "type"}
WITHOUT_SCHEMA = {"ObjectMeta"}
"""Kubernetes validates these itself."""


def reduce_models(wheel):
    """Write the schemas and the source of the models in a wheel."""
    schemas = {}
    for kind in KINDS:
        schema = getattr(v1, kind).model_json_schema(by_alias=True)
        schemas[kind] = reduced(schema, schema["$defs"])
    text = json.dumps(schemas, separators=(",", ":"), sort_keys=True)
    data = lzma.compress(text.encode(), preset=9)
    (FOLDER / "prometheus-operator.json.xz").write_bytes(data)
    source = {
        "package": PACKAGE,
        "version": version(PACKAGE),
        "license": "Apache-2.0",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
    }
    path = FOLDER / "prometheus-operator-source.json"
    path.write_text(json.dumps(source, indent=2) + "\n")


def reduced(schema, definitions):
    """Return a schema with its parts in place, without null and what explains it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return (
            {"type": "object"}
            if name in WITHOUT_SCHEMA
            else reduced(definitions[name], definitions)
        )
    kept = {name: value for name, value in schema.items() if name in KEPT}
    if "properties" in kept:
        kept["properties"] = {
            name: reduced(each, definitions) for name, each in kept["properties"].items()
        }
    for name in ("items", "additionalProperties"):
        if isinstance(kept.get(name), dict):
            kept[name] = reduced(kept[name], definitions)
    choices = [
        reduced(each, definitions) for each in kept.pop("anyOf", ()) if each.get("type") != "null"
    ]
    if len(choices) == 1:
        return kept | choices[0]
    return kept | ({"anyOf": choices} if choices else {})


if __name__ == "__main__":
    reduce_models(Path(sys.argv[1]))
