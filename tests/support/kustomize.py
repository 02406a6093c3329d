"""Render the Kustomize folders of cluster/kuberay where kubectl is missing.

It knows the features that these folders use, and refuses all others. A test compares it with
`kubectl kustomize`.
"""

import copy
import json

import yaml

KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "nameSuffix",
    "resources",
    "patches",
    "images",
    "configMapGenerator",
    "replacements",
}
LOCAL = "config.kubernetes.io/local-config"
WITHOUT_NAMESPACE = {"Namespace"}


def render(folder):
    """Return the resources that `kubectl kustomize` prints for a folder, in another order.

    Args:
        folder: path of the folder.

    Raises:
        ValueError: the folder uses a feature that this module does not know.
    """
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text())
    check_keys(settings, KNOWN)
    resources = [each for name in settings.get("resources", []) for each in load(folder / name)]
    resources += [make_config_map(folder, each) for each in settings.get("configMapGenerator", [])]
    for patch in settings.get("patches", []):
        check_keys(patch, {"target", "patch"})
        for resource in select(resources, patch["target"]):
            apply_patch(resource, yaml.safe_load(patch["patch"]))
    for resource in resources:
        if "namespace" in settings and resource["kind"] not in WITHOUT_NAMESPACE:
            resource["metadata"]["namespace"] = settings["namespace"]
        resource["metadata"]["name"] += settings.get("nameSuffix", "")
    for image in settings.get("images", []):
        check_keys(image, {"name", "newName", "newTag"})
        rename_image(resources, image["name"], f"{image['newName']}:{image['newTag']}")
    for replacement in settings.get("replacements", []):
        replace(resources, replacement)
    return [each for each in resources if not is_local(each)]


def load(path):
    """Return the resources of a folder or of a YAML file, without shared parts."""
    if path.is_dir():
        return render(path.resolve())
    documents = yaml.safe_load_all(path.read_text())
    return [json.loads(json.dumps(each)) for each in documents if each is not None]


def check_keys(settings, known):
    if unknown := set(settings) - known:
        raise ValueError(f"this renderer does not know {sorted(unknown)}")


def make_config_map(folder, settings):
    check_keys(settings, {"name", "files", "envs", "options"})
    options = settings["options"]
    check_keys(options, {"disableNameSuffixHash", "labels"})
    if options.get("disableNameSuffixHash") is not True:
        raise ValueError("this renderer adds no hash to the name of a ConfigMap")
    files = [folder / name for name in settings.get("files", [])]
    data = {file.name: file.read_text() for file in files}
    for name in settings.get("envs", []):
        lines = (folder / name).read_text().splitlines()
        data |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": settings["name"],
            **({"labels": options["labels"]} if "labels" in options else {}),
        },
        "data": data,
    }


def select(resources, target):
    check_keys(target, {"kind"})
    chosen = [each for each in resources if each["kind"] == target["kind"]]
    if not chosen:
        raise ValueError(f"no resource is a {target['kind']}")
    return chosen


def apply_patch(resource, operations):
    """Apply a JSON patch (RFC 6902) of the operations add, replace and remove."""
    for each in operations:
        *path, last = each["path"].removeprefix("/").split("/")
        words = [word.replace("~1", "/").replace("~0", "~") for word in [*path, last]]
        parent = at(resource, words[:-1])
        key = int(words[-1]) if isinstance(parent, list) else words[-1]
        if each["op"] != "add":
            parent[key]  # fails where there is nothing to replace or to remove
        if each["op"] == "remove":
            del parent[key]
        elif each["op"] in ("add", "replace") and isinstance(parent, dict):
            parent[key] = copy.deepcopy(each["value"])
        else:
            raise ValueError(f"this renderer does not know {each['op']} of an item of a list")


def replace(resources, settings):
    """Copy a field of one resource into fields of others."""
    check_keys(settings, {"source", "targets"})
    source = settings["source"]
    check_keys(source, {"kind", "fieldPath"})
    (chosen,) = select(resources, {"kind": source["kind"]})
    value = at(chosen, source["fieldPath"].split("."))
    for target in settings["targets"]:
        check_keys(target, {"select", "fieldPaths", "options"})
        for resource in select(resources, target["select"]):
            for path in target["fieldPaths"]:
                *words, last = path.split(".")
                parent = at(resource, words)
                if not target.get("options", {}).get("create"):
                    parent[last]  # fails where there is no such field
                parent[last] = copy.deepcopy(value)


def at(value, words):
    for word in words:
        value = value[int(word)] if isinstance(value, list) else value[word]
    return value


def rename_image(value, name, image):
    """Replace the image of every container that names it, at any depth."""
    if isinstance(value, list):
        for each in value:
            rename_image(each, name, image)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("containers", "initContainers"):
                for container in inner:
                    if container["image"] == name:
                        container["image"] = image
            rename_image(inner, name, image)


def is_local(resource):
    return resource["metadata"].get("annotations", {}).get(LOCAL) == "true"
