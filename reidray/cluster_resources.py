"""What the cluster has that this process is connected to."""

import ray


def cluster_cpus() -> int:
    """Whole CPUs of the cluster."""
    return int(ray.cluster_resources().get("CPU", 0))


def cluster_gpus() -> int:
    """GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def node_resources() -> list[dict[str, float]]:
    """What each living node of the cluster has, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def object_store_bytes() -> int:
    """What the object store of a node holds, the smallest of those that can train."""
    nodes = [node for node in node_resources() if node.get("CPU", 0) >= 1]
    stores = [node.get("object_store_memory", 0) for node in nodes]
    return int(min(stores, default=0))
