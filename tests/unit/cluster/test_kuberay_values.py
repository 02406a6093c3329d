"""The values of cluster/kuberay are those that its README and KubeRay need."""

import re
from itertools import pairwise

import pytest
from support.kuberay_folders import (
    ALL_DOCUMENTS,
    CLUSTER_KINDS,
    JOB_KINDS,
    KUBERAY,
    descriptions_of,
    documents,
    parts,
)

README = " ".join((KUBERAY / "README.md").read_text().split())
CLUSTERS = parts(CLUSTER_KINDS)
SCALING = [(name, part) for name, part in CLUSTERS if part["enableInTreeAutoscaling"]]
JOBS = parts(JOB_KINDS)
RAY_PODS = [
    (f"{name}:{place}", group["template"])
    for name, part in CLUSTERS
    for place, group in enumerate([part["headGroupSpec"], *part["workerGroupSpecs"]])
]


def parameters(found):
    return pytest.mark.parametrize("part", [pytest.param(part, id=name) for name, part in found])


def only(folder, kind):
    (found,) = [each for each in documents(folder) if each["kind"] == kind]
    return found


@parameters(RAY_PODS)
def test_a_busy_node_is_not_taken_for_a_dead_one(part):
    (container,) = part["spec"]["containers"]
    for probe, seconds in (("livenessProbe", 300), ("readinessProbe", 60)):
        settings = container[probe]
        assert settings["failureThreshold"] * settings["periodSeconds"] == seconds
        assert settings["timeoutSeconds"] == 5


@parameters(RAY_PODS)
def test_ray_pods_own_their_volumes_and_may_go_without_keys_of_s3(part):
    context = part["spec"]["securityContext"]
    assert {context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {1000}
    volumes = {each["name"]: each["emptyDir"] for each in part["spec"]["volumes"]}
    assert volumes == {"tmp": {}, "home": {"sizeLimit": "1Gi"}}  # Ray spills objects to /tmp
    (container,) = part["spec"]["containers"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": "reidray-settings"}},
        {"secretRef": {"name": "reidray-s3", "optional": True}},
    ]


@parameters(CLUSTERS)
def test_machines_with_gpus_are_for_the_workers_that_ask_for_one(part):
    tolerated = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    for group in part["workerGroupSpecs"]:
        expected = tolerated if group["groupName"] == "gpu" else None
        assert group["template"]["spec"].get("tolerations") == expected


@parameters(CLUSTERS)
def test_kubernetes_does_not_move_a_head(part):
    assert part["headGroupSpec"]["template"]["metadata"]["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"
    }


@parameters(SCALING)
def test_idle_workers_go_when_the_readme_says(part):
    idle = {each["idleTimeoutSeconds"] for each in descriptions_of(part, "idleTimeoutSeconds")}
    assert idle == {120}
    assert "An idle worker is deleted after 2 minutes" in README
    assert part["autoscalerOptions"]["upscalingMode"] == "Default"


@parameters(JOBS)
def test_a_job_waits_and_ends_as_the_readme_says(part):
    nightly = "score_nightly.py" in part["entrypoint"]
    assert part["backoffLimit"] == int(nightly)  # a night goes on from its store
    assert part["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"
    if "deletionStrategy" not in part:
        assert part["ttlSecondsAfterFinished"] == 600
        return
    assert part["preRunningDeadlineSeconds"] == 30 * 60
    assert "fails after 30 minutes" in README
    after = {
        (rule["condition"].get("jobStatus", "Failed"), rule["policy"]): (
            rule["condition"]["ttlSeconds"]
        )
        for rule in part["deletionStrategy"]["deletionRules"]
    }
    week = 7 * 24 * 3600
    assert after == {
        ("SUCCEEDED", "DeleteCluster"): 60,  # Prometheus scrapes every 10 s
        ("SUCCEEDED", "DeleteSelf"): week,
        ("Failed", "DeleteCluster"): 3600,
        ("Failed", "DeleteSelf"): week,
    }
    assert "keeps its head for an hour" in README
    assert "deletes the `RayJob` itself after a week" in README


def test_a_training_on_gpus_survives_machines_that_are_taken_away():
    words = only("overlays/gpu", "RayJob")["spec"]["entrypoint"].split()
    flags = dict(pairwise(words))
    assert flags["--use-gpu"] == "yes"
    assert int(flags["--min-workers"]) < int(flags["--num-workers"])
    assert int(flags["--max-failures"]) > 0


def test_the_schedule_creates_the_job_of_the_file_that_is_mounted():
    cron = only("overlays/nightly", "CronJob")["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command, file, cache = container["args"]
    assert command == "create"  # each night has a name of its own, which apply refuses
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    files = {
        f"--filename={mount['mountPath']}/{name}"
        for mount in container["volumeMounts"]
        if "configMap" in volumes[mount["name"]]
        for name in only("overlays/nightly", "ConfigMap")["data"]
    }
    assert file in files
    assert cache.startswith("--cache-dir=/tmp/")
    assert cron["startingDeadlineSeconds"] == 3600  # of a Kubernetes that was down at 01:00
    assert only("overlays/raycronjob", "RayCronJob")["spec"]["suspend"] is False


def test_the_head_reaches_the_redis_that_it_names():
    options = only("overlays/redis", "RayCluster")["spec"]["gcsFaultToleranceOptions"]
    port = int(options["redisAddress"].rpartition(":")[2])
    (rule,) = only("overlays/redis", "NetworkPolicy")["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port}]
    key = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert f"create secret generic {key['name']} --from-file={key['key']}=" in README


def test_jobs_of_kueue_name_the_queue_of_the_readme():
    labels = [each["metadata"]["labels"] for each in documents("overlays/kueue")]
    assert labels == [{"kueue.x-k8s.io/queue-name": "reidray"}] * 2
    assert "`LocalQueue` named `reidray`" in README


def test_the_namespace_enforces_the_standard_of_the_readme():
    (namespace,) = [each for _, each in ALL_DOCUMENTS if each["kind"] == "Namespace"]
    standard = {f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "warn")}
    assert namespace["metadata"]["labels"] == dict.fromkeys(standard, "restricted")
    assert "Pod Security Standard `restricted`" in README


def test_policies_know_the_operator_prometheus_and_dns_by_the_names_of_the_readme():
    found = [*documents("namespace"), *documents("overlays/monitoring")]
    peers = {
        (each["metadata"]["name"], *names(peer))
        for each in found
        if each["kind"] == "NetworkPolicy"
        for peer in descriptions_of(each, "namespaceSelector")
    }
    assert peers == {
        ("dashboard", "kuberay-system", "kuberay-operator"),
        ("dns", "kube-system", None),
        ("metrics", "monitoring", "prometheus"),
    }
    for namespace in ("kuberay-system", "monitoring"):
        assert re.search(rf"--namespace {namespace} (\\\\ )?--create-namespace", README)


def names(peer):
    """Return the namespace of a peer of a policy, and the application there."""
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    return (
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        labels.get("app.kubernetes.io/name"),
    )


@pytest.mark.parametrize(
    ("policy", "direction", "ports"),
    [
        ("dns", "egress", {("UDP", 53), ("TCP", 53)}),
        ("dashboard", "ingress", {("TCP", 8265)}),
        ("submitter", "egress", {("TCP", 8265)}),
        ("s3", "egress", {("TCP", 443), ("TCP", 80)}),
        ("kubernetes-api", "egress", {("TCP", 443), ("TCP", 6443)}),
    ],
)
def test_policies_open_the_ports_of_what_they_are_for(policy, direction, ports):
    (found,) = [each for each in documents("namespace") if each["metadata"]["name"] == policy]
    opened = {
        (port["protocol"], port["port"])
        for rule in found["spec"][direction]
        for port in rule["ports"]
    }
    assert opened == ports


def test_policies_and_the_monitor_select_ray_pods_by_the_labels_of_kuberay():
    found = [*documents("namespace"), *documents("overlays/monitoring")]
    labels = {
        (name, value)
        for each in found
        for selector in descriptions_of(each, "matchLabels")
        for name, value in selector["matchLabels"].items()
        if name.startswith("ray.io/")
    }
    assert labels == {("ray.io/is-ray-node", "yes"), ("ray.io/node-type", "head")}


def test_the_only_address_of_a_machine_is_the_agent_of_eks():
    blocks = {each["cidr"] for each in descriptions_of(list(documents("namespace")), "cidr")}
    assert blocks == {"0.0.0.0/0", "169.254.170.23/32"}


def test_grafana_finds_both_dashboards_by_their_label():
    dashboards = only("overlays/monitoring", "ConfigMap")
    assert dashboards["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert set(dashboards["data"]) == {"training.json", "nights.json"}
