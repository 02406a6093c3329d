"""The clusters and jobs of cluster/kuberay are safe, cost nothing while idle, and start."""

import re
import shlex
import tomllib
from itertools import product
from string import Template

import pytest
import yaml
from support.kuberay_folders import (
    ALL_DOCUMENTS,
    CLUSTER_KINDS,
    FOLDERS,
    JOB_KINDS,
    KUBERAY,
    descriptions_of,
    documents,
    parts,
)
from support.paths import ROOT

from reidray.cli.arguments import parse_arguments
from reidray.cli.main import load_job

CLUSTERS = parts(CLUSTER_KINDS)
JOBS = parts(JOB_KINDS)
PODS = [(name, pod) for name, each in ALL_DOCUMENTS for pod in descriptions_of(each, "containers")]
SECRETS = {"reidray-token", "reidray-s3", "reidray-redis"}
MAX_JOB_NAME = 47
"""Characters of the name of a RayJob in KubeRay 1.7."""

GENERATED_CHARACTERS = 5


def parameters(found):
    return pytest.mark.parametrize("part", [pytest.param(part, id=name) for name, part in found])


def test_the_folders_are_there():
    wanted = {"cpu", "gpu", "sweep", "nightly", "autoscaling", "raycronjob", "redis", "kueue"}
    wanted.add("monitoring")
    assert {f"overlays/{name}" for name in wanted} <= set(FOLDERS)
    assert (len(CLUSTERS), len(JOBS), len(PODS)) >= (10, 7, 30)


@parameters(PODS)
def test_pods_have_no_rights_on_their_machine(part):
    context = part["securityContext"]
    assert context["runAsNonRoot"]
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(part)
    assert all({"emptyDir", "configMap"} & set(volume) for volume in part["volumes"])
    for container in part["containers"]:
        check_container(container)


def check_container(container):
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    resources = container["resources"]
    assert {"cpu", "memory"} <= set(resources["limits"])
    assert resources["requests"] == resources["limits"]


@parameters(PODS)
def test_what_pods_write_goes_to_volumes(part):
    volumes = {volume["name"] for volume in part["volumes"]}
    for container in part["containers"]:
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounted.values()) <= volumes
        assert "/tmp" in mounted
        home = [each["value"] for each in container.get("env", []) if each["name"] == "HOME"]
        assert set(home) <= set(mounted)


@parameters(PODS)
def test_only_heads_that_scale_and_the_schedule_talk_to_kubernetes(part):
    """Another test says which heads do."""
    name = part["containers"][0]["name"]
    if name != "ray-head":
        assert part["automountServiceAccountToken"] is (name == "create-ray-job")


@parameters(CLUSTERS)
def test_the_token_is_that_of_a_secret(part):
    assert part["authOptions"] == {"mode": "token", "secretName": "reidray-token"}


def test_no_secret_is_in_a_file_and_each_is_explained():
    kinds = {each["kind"] for _, each in ALL_DOCUMENTS}
    assert "Secret" not in kinds
    keys = ("secretKeyRef", "secretRef", "secretName")
    found = [
        each[key] if isinstance(each[key], str) else each[key]["name"]
        for _, document in ALL_DOCUMENTS
        for key in keys
        for each in descriptions_of(document, key)
    ]
    assert set(found) == SECRETS
    readme = (KUBERAY / "README.md").read_text()
    assert all(f"create secret generic {name}" in readme for name in SECRETS)


@parameters(CLUSTERS)
def test_a_cluster_is_reached_from_within_only(part):
    assert not {"networkPolicy", "historyServerOptions"} & set(part)  # alpha in KubeRay 1.7
    head = part["headGroupSpec"]
    assert not {"headService", "serviceType", "enableIngress", "ingressOptions"} & set(head)


def test_nothing_listens_beyond_the_cluster():
    assert not {each["kind"] for _, each in ALL_DOCUMENTS} & {"Service", "Ingress", "HTTPRoute"}


@parameters(CLUSTERS)
def test_groups_begin_with_nothing_and_gpu_groups_may_be_empty(part):
    groups = {group["groupName"]: group for group in part["workerGroupSpecs"]}
    assert "cpu" in groups
    scales = part["enableInTreeAutoscaling"]
    for group in groups.values():
        assert group["minReplicas"] == 0
        assert group["maxReplicas"] >= max(1, group["replicas"])
        assert (group["replicas"] == 0) is scales
        assert ("idleTimeoutSeconds" in group) is scales  # KubeRay refuses it elsewhere
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) is (group["groupName"] == "gpu")
    assert ("autoscalerOptions" in part) is scales


@parameters(CLUSTERS)
def test_the_head_runs_no_tasks_and_reaches_kubernetes_only_to_scale(part):
    assert part["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    head = part["headGroupSpec"]["template"]["spec"]
    assert head["automountServiceAccountToken"] is part["enableInTreeAutoscaling"]


@parameters([(name, part) for name, part in CLUSTERS if part["enableInTreeAutoscaling"]])
def test_the_autoscaler_has_no_more_rights_than_the_head(part):
    options = part["autoscalerOptions"]
    assert options["version"] == "v2"
    check_container(options)
    (head,) = part["headGroupSpec"]["template"]["spec"]["containers"]
    assert options["volumeMounts"] == head["volumeMounts"]


@parameters(CLUSTERS)
def test_ray_pods_are_probed_where_ray_answers_without_a_token(part):
    templates = [part["headGroupSpec"], *part["workerGroupSpecs"]]
    for container in (each["template"]["spec"]["containers"][0] for each in templates):
        for probe in ("livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
        assert "startupProbe" not in container  # KubeRay keeps it where no Ray runs


@parameters(CLUSTERS)
def test_the_clusters_run_the_ray_of_this_project(part):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = [each for each in project["dependencies"] if each.startswith("ray[")]
    assert ray.endswith(f"=={part['rayVersion']}")
    images = {each["image"] for each in descriptions_of(part, "image")}
    assert len(images) == 1


@parameters(JOBS)
def test_a_job_has_the_flags_of_its_command(part, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    entrypoint = part["entrypoint"]
    assert "\n" not in entrypoint  # KubeRay puts it into one line of a shell
    python, script, *words = shlex.split(Template(entrypoint).substitute(settings()))
    assert python == "python"
    folder, name = re.fullmatch(r"(/app/jobs)/(\w+)\.py", script).groups()
    assert (ROOT / "jobs" / f"{name}.py").is_file(), folder
    parsed = parse_arguments(load_job(name.replace("_", "-")).config_class, words)
    assert parsed.config.output.startswith(("s3://", "/tmp/"))


def settings():
    (found,) = [each["data"] for each in documents("namespace") if each["kind"] == "ConfigMap"]
    return found


@parameters(JOBS)
def test_the_submitter_has_what_the_command_names(part):
    (container,) = part["submitterPodTemplate"]["spec"]["containers"]
    assert {"configMapRef": {"name": "reidray-settings"}} in container["envFrom"]
    image = part["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    assert container["image"] == image


@parameters(JOBS)
def test_what_a_job_leaves_is_deleted_in_a_way_that_kuberay_accepts(part):
    if "deletionStrategy" not in part:  # KubeRay suspends only such jobs, as Kueue does
        assert part["shutdownAfterJobFinishes"]
        assert part["ttlSecondsAfterFinished"] > 0
        return
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & set(part)
    rules = {
        (status, rule["policy"])
        for rule in part["deletionStrategy"]["deletionRules"]
        for status in rule["condition"].values()
        if isinstance(status, str)
    }
    assert rules == set(product(("SUCCEEDED", "Failed"), ("DeleteCluster", "DeleteSelf")))


def test_a_night_ends_before_the_next_one_begins():
    (cron,) = [each for each in documents("overlays/nightly") if each["kind"] == "CronJob"]
    (ray_cron,) = documents("overlays/raycronjob")
    assert cron["spec"]["schedule"] == ray_cron["spec"]["schedule"] == "0 1 * * *"
    assert cron["spec"]["timeZone"] == ray_cron["spec"]["timeZone"]
    assert ray_cron["spec"]["jobTemplate"]["activeDeadlineSeconds"] < 24 * 3600 / 2


def test_names_are_as_short_as_kuberay_demands():
    for _, each in ALL_DOCUMENTS:
        if each["kind"] in JOB_KINDS:
            metadata = each["metadata"]
            name = metadata.get("name") or metadata["generateName"] + "x" * GENERATED_CHARACTERS
            limit = MAX_JOB_NAME - (11 if each["kind"] == "RayCronJob" else 0)
            assert len(name) <= limit


def test_the_schedule_may_create_ray_jobs_and_nothing_else():
    found = documents("overlays/nightly")
    kinds = {each["kind"]: each for each in found}
    (cron,) = [each for each in found if each["kind"] == "CronJob"]
    assert not {"ClusterRole", "ClusterRoleBinding"} & {each["kind"] for _, each in ALL_DOCUMENTS}
    assert [each for _, each in ALL_DOCUMENTS if each["kind"] == "Role"] == [kinds["Role"]]
    assert kinds["Role"]["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}
    ]
    account = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
    assert kinds["RoleBinding"]["subjects"] == [
        {"kind": "ServiceAccount", "name": account, "namespace": "reidray"}
    ]
    assert kinds["RoleBinding"]["roleRef"]["name"] == kinds["Role"]["metadata"]["name"]


@parameters(PODS)
def test_accounts_and_settings_that_pods_name_exist(part):
    known = {
        (each["kind"], each["metadata"]["name"])
        for folder in ("namespace", "overlays/nightly")
        for each in documents(folder)
        if "name" in each["metadata"]
    }
    assert ("ServiceAccount", part["serviceAccountName"]) in known
    for key in ("configMapRef", "configMap"):
        for each in descriptions_of(part, key):
            assert ("ConfigMap", each[key]["name"]) in known


def test_everything_is_denied_that_no_policy_allows():
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in documents("namespace")
        if each["kind"] == "NetworkPolicy"
    }
    assert policies.pop("default-deny") == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    ingress = {name for name, spec in policies.items() if "Ingress" in spec["policyTypes"]}
    assert ingress == {"ray", "dashboard"}
    for name, spec in policies.items():
        for direction in ("Ingress", "Egress"):
            assert (direction.lower() in spec) is (direction in spec["policyTypes"]), name
    blocks = list(descriptions_of(policies, "cidr"))
    everywhere = [block for block in blocks if block["cidr"] == "0.0.0.0/0"]
    assert everywhere == [{"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}]


def test_policies_select_pods_by_labels_that_pods_have():
    carried = {"head", "worker", "submitter", "schedule"}
    templates = [
        each["metadata"]["labels"]
        for _, document in ALL_DOCUMENTS
        for each in descriptions_of(document, "spec")
        if "containers" in each["spec"] and "labels" in each.get("metadata", {})
    ]
    key = "app.kubernetes.io/component"
    assert {labels[key] for labels in templates} == carried
    text = yaml.safe_dump(list(documents("namespace")) + list(documents("overlays/redis")))
    named = set(re.findall(rf"{key}: (\w+)", text))
    assert named <= carried
