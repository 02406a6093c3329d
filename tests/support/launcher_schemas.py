"""Find keys in configurations of Ray's cluster launcher that neither Ray nor the cloud knows.

Ray's own schema leaves `provider` and `node_config` open. What it leaves open is checked here by
the descriptions of the clouds: the model of EC2 in botocore, the description of Compute Engine in
Google's client, and the deployment template in Ray for Azure.
"""

import json
import re
from functools import cache
from pathlib import Path

import botocore.session
import googleapiclient
import jsonschema
import ray.autoscaler
from botocore.validate import ParamValidator

AUTOSCALER = Path(ray.autoscaler.__file__).parent
RESOURCES = {"CPU", "GPU"}
RAY_ONLY = {"aws": {"SubnetIds"}, "azure": {"availability_zone"}}
"""Keys of a node that Ray replaces before it asks the cloud."""


def problems(config):
    """Return what Ray's schema and the cloud refuse in a configuration, one text for each."""
    validator = jsonschema.Draft7Validator(_schema())
    found = [error.message for error in validator.iter_errors(config)]
    if found:
        return found
    cloud = config["provider"]["type"]
    found += [f"provider: {key}" for key in config["provider"] if key not in _provider_words(cloud)]
    for name, node in config["available_node_types"].items():
        found += [f"{name}: resource {key}" for key in set(node["resources"]) - RESOURCES]
        found += [f"{name}: {text}" for text in NODE_PROBLEMS[cloud](node["node_config"])]
    return found


@cache
def _schema():
    return json.loads((AUTOSCALER / "ray-schema.json").read_text())


@cache
def _provider_words(cloud):
    """Return the words in quotes in Ray's schema and in its code for a cloud."""
    package = AUTOSCALER / "_private" / {"azure": "_azure"}.get(cloud, cloud)
    code = [*package.glob("*.py"), *(AUTOSCALER / "_private").glob("*.py")]
    texts = [path.read_text() for path in code]
    words = set(re.findall(r'"(\w+)"', "\n".join(texts)))
    return words | set(_schema()["properties"]["provider"]["properties"])


@cache
def _run_instances():
    ec2 = botocore.session.get_session().get_service_model("ec2")
    return ec2.operation_model("RunInstances").input_shape


def _aws_problems(node):
    request = {key: value for key, value in node.items() if key not in RAY_ONLY["aws"]}
    request |= {"MinCount": 1, "MaxCount": 1}
    report = ParamValidator().validate(request, _run_instances())
    return [report.generate_report()] if report.has_errors() else []


@cache
def _compute_engine():
    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    return json.loads((folder / "compute.v1.json").read_text())["schemas"]


def _gcp_problems(node):
    return list(_undescribed(node, {"$ref": "Instance"}, "Instance"))


def _undescribed(value, schema, where):
    """Yield the places of a value that the description of Compute Engine does not have."""
    if "$ref" in schema:
        schema = _compute_engine()[schema["$ref"]]
    kinds = {"object": dict, "array": list, "boolean": bool, "string": (str, int), "integer": int}
    kind = schema.get("type", "object")
    if not isinstance(value, kinds[kind]):
        yield f"{where}: {value!r} is no {kind}"
    elif kind == "string" and "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    elif kind == "array":
        for each in value:
            yield from _undescribed(each, schema["items"], where)
    elif kind == "object":
        for key, each in value.items():
            described = schema["properties"].get(key, schema.get("additionalProperties"))
            if described is None:
                yield f"{where}.{key}"
            else:
                yield from _undescribed(each, described, f"{where}.{key}")


def _azure_problems(node):
    template = json.loads((AUTOSCALER / "_private/_azure/azure-vm-template.json").read_text())
    known = set(template["parameters"]) | RAY_ONLY["azure"]
    unknown = [key for key in node if key != "azure_arm_parameters"]
    return unknown + [key for key in node.get("azure_arm_parameters", {}) if key not in known]


NODE_PROBLEMS = {"aws": _aws_problems, "azure": _azure_problems, "gcp": _gcp_problems}
