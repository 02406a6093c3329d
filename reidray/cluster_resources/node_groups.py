"""Find the groups of nodes that the autoscaler of a Ray cluster may start.

Ray 2.60 has no public function for them. The managed Ray of some clouds reports them to the head;
elsewhere they lie in the configuration of the autoscaler, whose process runs on the head: this
module reads the file that the command line of that process names, or, on Kubernetes, the
description of the cluster that KubeRay keeps.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

log = logging.getLogger("reidray")

HEAD = "node:__internal_head__"
"""Resource that the head alone has."""

UNLIMITED_NODES = 1000
"""Largest number of nodes of a group that counts, also where the group has no limit."""

HEAD_TIMEOUT_SECONDS = 60.0

MAX_REASON_LENGTH = 200
"""Number of characters of a failure in a message."""

KUBERNETES_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""File in which a pod finds its namespace."""

UNREADABLE = (ray.exceptions.RayError, OSError, KeyError, ValueError, yaml.YAMLError)
"""Errors of a configuration that cannot be read."""


@dataclass(frozen=True)
class NodeGroup:
    """Describe nodes of one kind that an autoscaler may start.

    Attributes:
        name: name of the group.
        resources: resources of each node by their names in Ray.
        max_nodes: largest number of nodes.
    """

    name: str
    resources: Mapping[str, float]
    max_nodes: int


@dataclass(frozen=True)
class GrowthLimit:
    """Hold the limits of an autoscaler.

    Attributes:
        groups: groups of nodes, without the head.
        max_nodes: largest number of nodes of all groups together.
    """

    groups: tuple[NodeGroup, ...] = ()
    max_nodes: int = 0


def find_growth_limit() -> GrowthLimit:
    """Return the limits of the autoscaler of the connected cluster; no groups without one.

    Where they cannot be read, a warning says so once, and the nodes that are up count alone.
    """
    return _find_growth_limit(ray.get_runtime_context().gcs_address)


@lru_cache(maxsize=1)
def _find_growth_limit(gcs_address: str) -> GrowthLimit:
    try:
        return _read_growth_limit(gcs_address)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[-MAX_REASON_LENGTH:]
        log.warning(
            "what the autoscaler of the cluster may start is unknown (%s): the nodes that are up "
            "count alone",
            reason,
        )
        return GrowthLimit()


def _read_growth_limit(gcs_address: str) -> GrowthLimit:
    reported = state.state.get_cluster_config()
    if reported is not None and reported.node_group_configs:
        return _reported_limit(reported)
    head = next((node for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]), None)
    if head is None:
        return GrowthLimit()
    own_id = ray.get_runtime_context().get_node_id()
    own = next(node for node in ray.nodes() if node["NodeID"] == own_id)
    if head["NodeManagerAddress"] == own["NodeManagerAddress"]:
        config = read_autoscaler_config(gcs_address)
    else:
        config = _read_on_head(head["NodeID"], gcs_address)
    return GrowthLimit() if config is None else limit_of_config(config)


def _reported_limit(reported: Any) -> GrowthLimit:
    """Return the limits that the head knows; a group without a limit has -1 nodes there."""
    groups = tuple(
        NodeGroup(
            group.name,
            dict(group.resources),
            _limited(group.max_count),
        )
        for group in reported.node_group_configs
    )
    return GrowthLimit(groups, sum(group.max_nodes for group in groups))


def limit_of_config(config: Mapping[str, Any]) -> GrowthLimit:
    """Return the limits in the configuration of Ray's autoscaler.

    Its versions 1 and 2 read the same configuration. A group of KubeRay without a limit has
    2**31 - 1 nodes there.

    >>> limit_of_config({
    ...     "max_workers": 4,
    ...     "head_node_type": "head",
    ...     "available_node_types": {
    ...         "head": {"resources": {"CPU": 4}},
    ...         "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 2},
    ...         "cpu": {"resources": {"CPU": 16}},
    ...     },
    ... })  # doctest: +NORMALIZE_WHITESPACE
    GrowthLimit(groups=(NodeGroup(name='gpu', resources={'CPU': 8, 'GPU': 1}, max_nodes=2),
    NodeGroup(name='cpu', resources={'CPU': 16}, max_nodes=4)), max_nodes=4)
    """
    most = int(config.get("max_workers", 0))
    groups = tuple(
        NodeGroup(name, dict(kind.get("resources", {})), _limited(kind.get("max_workers", most)))
        for name, kind in config.get("available_node_types", {}).items()
        if name != config.get("head_node_type")
    )
    return GrowthLimit(groups, most)


def _limited(max_nodes: int) -> int:
    return UNLIMITED_NODES if max_nodes < 0 else min(max_nodes, UNLIMITED_NODES)


def _read_on_head(head: str, gcs_address: str) -> dict[str, Any] | None:
    """Read the configuration in a task on the head, which needs no CPU.

    Raises:
        RayError: the head does not answer, or the configuration cannot be read.
    """
    reading = ray.remote(num_cpus=0, max_retries=0)(read_autoscaler_config).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(head, soft=False)
    )
    config: dict[str, Any] | None = ray.get(
        reading.remote(gcs_address), timeout=HEAD_TIMEOUT_SECONDS
    )
    return config


def read_autoscaler_config(gcs_address: str) -> dict[str, Any] | None:
    """Return the configuration of the autoscaler that runs on this machine; None without one.

    Args:
        gcs_address: address of the cluster's head; its port tells it from others of this machine.

    Raises:
        OSError, KeyError, ValueError, YAMLError: the configuration cannot be read.
    """
    port = gcs_address.rpartition(":")[2]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # a process that has ended, or of another user
        served = [word for word in words if word.startswith("--gcs-address=")]
        if not any(word.rpartition(":")[2] == port for word in served):
            continue
        for word in words:
            option, _, value = word.partition("=")
            if option == "--autoscaling-config" and value:
                config: dict[str, Any] = yaml.safe_load(Path(value).expanduser().read_text())
                return config
    if "RAY_CLUSTER_NAME" in os.environ and KUBERNETES_NAMESPACE.is_file():
        return _read_from_kubernetes(os.environ["RAY_CLUSTER_NAME"])
    return None


def _read_from_kubernetes(cluster: str) -> dict[str, Any]:
    """Return the configuration that KubeRay derives from the description of a cluster.

    Raises:
        OSError: Kubernetes does not answer, or does not let this process read it.
        KeyError, ValueError: the description has another form.
    """
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    client = KubernetesHttpApiClient(namespace=KUBERNETES_NAMESPACE.read_text().strip())
    described = client.get(f"rayclusters/{cluster}")
    if not described["spec"].get("enableInTreeAutoscaling"):
        return {}
    config: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(described)
    return config
