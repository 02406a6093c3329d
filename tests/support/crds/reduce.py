"""Reduce the CustomResourceDefinitions of KubeRay to the schemas that tests validate against.

Run it with the version, and with a checkout of KubeRay at its tag:

    uv run tests/support/crds/reduce.py VERSION KUBERAY/ray-operator/config/crd/bases

It writes `kuberay.json.xz`, the schema of each kind without descriptions, and `sources.json`, the
version and the SHA-256 digests of the original files, both beside this script.
"""

import hashlib
import json
import lzma
import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent
FILES = ("ray.io_rayclusters.yaml", "ray.io_rayjobs.yaml", "ray.io_raycronjobs.yaml")
API_VERSION = "v1"


def reduce_definitions(version, folder):
    """Write the schemas and the sources of the definitions in a folder."""
    schemas, digests = {}, {}
    for name in FILES:
        data = (folder / name).read_bytes()
        digests[name] = hashlib.sha256(data).hexdigest()
        definition = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]
        served = next(each for each in definition["versions"] if each["name"] == API_VERSION)
        schemas[definition["names"]["kind"]] = without_descriptions(
            served["schema"]["openAPIV3Schema"]
        )
    text = json.dumps(schemas, separators=(",", ":"), sort_keys=True)
    (FOLDER / "kuberay.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))
    sources = {
        "repository": "https://github.com/ray-project/kuberay",
        "version": version,
        "folder": "ray-operator/config/crd/bases",
        "license": "Apache-2.0",
        "sha256": digests,
    }
    (FOLDER / "sources.json").write_text(json.dumps(sources, indent=2) + "\n")


def without_descriptions(schema):
    """Return a schema without the texts that explain its fields."""
    kept = {name: value for name, value in schema.items() if name != "description"}
    for name in ("items", "additionalProperties"):
        if isinstance(kept.get(name), dict):
            kept[name] = without_descriptions(kept[name])
    if "properties" in kept:
        kept["properties"] = {
            name: without_descriptions(each) for name, each in kept["properties"].items()
        }
    return kept


if __name__ == "__main__":
    reduce_definitions(sys.argv[1], Path(sys.argv[2]))
