"""Return the resources of the Ray cluster to which this process is connected."""

import ray


def cluster_cpus() -> int:
    """Return the number of whole CPUs of the cluster."""
    return int(ray.cluster_resources().get("CPU", 0))


def cluster_gpus() -> int:
    """Return the number of GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def node_resources() -> list[dict[str, float]]:
    """Return the resources of each node that is alive, by their names in Ray."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def object_store_bytes() -> int:
    """Return the size in bytes of the smallest object store of the nodes that can train."""
    nodes = [node for node in node_resources() if node.get("CPU", 0) >= 1]
    stores = [node.get("object_store_memory", 0) for node in nodes]
    return int(min(stores, default=0))
