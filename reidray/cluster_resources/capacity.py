"""Count the resources of the Ray cluster to which this process is connected."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ray

from reidray.cluster_resources.node_groups import HEAD, GrowthLimit, find_growth_limit
from reidray.terminal import count_noun

NodeResources = Mapping[str, float]
"""Amounts of resources by their names in Ray."""

COUNTED = ("CPU", "GPU")
"""Resources that jobs ask for."""


@dataclass(frozen=True)
class ClusterCapacity:
    """Hold the resources of each node of a cluster.

    Attributes:
        now: those of the nodes that are alive.
        most: those of the nodes that the cluster may have once its autoscaler has started all that
            it may; the same on a cluster without one.
    """

    now: tuple[NodeResources, ...]
    most: tuple[NodeResources, ...]

    @property
    def cpus(self) -> int:
        """Return the number of whole CPUs that the cluster may have."""
        return total(self.most, "CPU")

    @property
    def gpus(self) -> int:
        """Return the number of GPUs that the cluster may have."""
        return total(self.most, "GPU")

    @property
    def gpu_nodes(self) -> list[NodeResources]:
        """Return the resources of each node with a GPU that the cluster may have."""
        return [node for node in self.most if node.get("GPU", 0) >= 1]

    def describe(self) -> str:
        """Return a clause, such as `has 1 CPU and 0 GPUs, and may grow to 9 CPUs and 4 GPUs`."""
        now, most = (
            " and ".join(count_noun(total(nodes, kind), kind) for kind in COUNTED)
            for nodes in (self.now, self.most)
        )
        return f"has {now}" if now == most else f"has {now}, and may grow to {most}"


def total(nodes: Iterable[NodeResources], kind: str) -> int:
    """Return the whole amount of a resource on some nodes."""
    return int(sum(node.get(kind, 0) for node in nodes))


def describe_resources(resources: NodeResources) -> str:
    """Return the CPUs and GPUs of resources in words, with others by their names in Ray.

    >>> describe_resources({"GPU": 1, "CPU": 4})
    '4 CPUs and 1 GPU'
    """
    order = (*COUNTED, *sorted(resources.keys() - set(COUNTED)))
    parts = [count_noun(resources[kind], kind) for kind in order if resources.get(kind)]
    return " and ".join(parts) or "no CPU"


def fits(needed: NodeResources, free: Iterable[NodeResources]) -> bool:
    """Return whether one of some nodes has free resources for a worker or a task."""
    return any(all(node.get(kind, 0) >= amount for kind, amount in needed.items()) for node in free)


def cluster_capacity() -> ClusterCapacity:
    """Return what the connected cluster has, and what it may grow to.

    Raises:
        MachineError: the head of the cluster does not answer.
    """
    now = tuple(node_resources())
    return ClusterCapacity(now, tuple(grown_nodes(now, find_growth_limit())))


def grown_nodes(now: Sequence[NodeResources], limit: GrowthLimit) -> list[NodeResources]:
    """Return the resources of each node of a cluster that has grown as far as it may.

    Nodes that are alive belong to the group with the same CPUs and GPUs. Where the groups together
    have more nodes than the autoscaler may start, those with the most GPUs, then CPUs, count.

    >>> from reidray.cluster_resources.node_groups import NodeGroup
    >>> groups = NodeGroup("cpu", {"CPU": 8}, 2), NodeGroup("gpu", {"CPU": 4, "GPU": 1}, 2)
    >>> grown_nodes([{"CPU": 2, HEAD: 1}, {"CPU": 8}], GrowthLimit(groups, 3))[2:]
    [{'CPU': 4, 'GPU': 1}, {'CPU': 4, 'GPU': 1}]

    Args:
        now: resources of the nodes that are alive.
        limit: limits of the autoscaler.
    """
    started = Counter(_shape(node) for node in now if HEAD not in node)
    num_started, addable = 0, []
    for group in limit.groups:
        shape = _shape(group.resources)
        own = min(started[shape], group.max_nodes)
        started[shape] -= own
        num_started += own
        addable += [group.resources] * (group.max_nodes - own)
    addable.sort(key=lambda node: _shape(node)[::-1], reverse=True)
    return [*now, *addable[: max(0, limit.max_nodes - num_started)]]


def _shape(node: NodeResources) -> tuple[float, ...]:
    return tuple(float(node.get(kind, 0)) for kind in COUNTED)


def cluster_cpus() -> int:
    """Return the number of whole CPUs that the cluster may grow to."""
    return cluster_capacity().cpus


def cluster_gpus() -> int:
    """Return the number of GPUs that the cluster may grow to."""
    return cluster_capacity().gpus


def node_resources() -> list[dict[str, float]]:
    """Return the resources of each node that is alive, by their names in Ray."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def object_store_bytes() -> int:
    """Return the size in bytes of the smallest object store of the nodes that can train."""
    nodes = [node for node in node_resources() if node.get("CPU", 0) >= 1]
    stores = [node.get("object_store_memory", 0) for node in nodes]
    return int(min(stores, default=0))
