"""The limits of an autoscaler in the forms of its configuration."""

from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)

from reidray.cluster_resources.capacity import grown_nodes
from reidray.cluster_resources.node_groups import HEAD, UNLIMITED_NODES, limit_of_config

KUBERAY_WITHOUT_LIMIT = 2**31 - 1


def group(name, limits, most, hosts=1):
    container = {"name": "ray", "resources": {"limits": limits}}
    return {
        "groupName": name,
        "minReplicas": 0,
        "maxReplicas": most,
        "numOfHosts": hosts,
        "rayStartParams": {},
        "template": {"spec": {"containers": [container]}},
    }


def test_the_groups_of_a_kuberay_cluster_grow_to_their_largest_numbers_of_replicas():
    cluster = {
        "metadata": {"name": "demo", "namespace": "ml"},
        "spec": {
            "enableInTreeAutoscaling": True,
            "headGroupSpec": group("head", {"cpu": "2", "memory": "8Gi"}, 0),
            "workerGroupSpecs": [
                group("cpu", {"cpu": "7500m"}, KUBERAY_WITHOUT_LIMIT),
                group("gpu", {"cpu": "8", "nvidia.com/gpu": "1"}, 3, hosts=2),
            ],
        },
    }
    limit = limit_of_config(_derive_autoscaling_config_from_ray_cr(cluster))
    assert [(each.name, each.max_nodes) for each in limit.groups] == [
        ("cpu", UNLIMITED_NODES),
        ("gpu", 6),
    ]
    nodes = grown_nodes([{"CPU": 2, HEAD: 1}, {"CPU": 8, "GPU": 1}], limit)
    assert len(nodes) == 1 + 6 + UNLIMITED_NODES
    assert sum(node.get("GPU", 0) for node in nodes) == 6
