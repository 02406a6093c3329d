"""Count the resources of a Ray cluster, now and once it has grown, and wait for them."""

from reidray.cluster_resources.capacity import (
    ClusterCapacity,
    NodeResources,
    cluster_capacity,
    cluster_cpus,
    cluster_gpus,
    describe_resources,
    node_resources,
    object_store_bytes,
)
from reidray.cluster_resources.occupants import find_waits
from reidray.cluster_resources.waiting import (
    no_room_error,
    patience,
    wait_for_resources,
    watching_waits,
)

__all__ = [
    "ClusterCapacity",
    "NodeResources",
    "cluster_capacity",
    "cluster_cpus",
    "cluster_gpus",
    "describe_resources",
    "find_waits",
    "no_room_error",
    "node_resources",
    "object_store_bytes",
    "patience",
    "wait_for_resources",
    "watching_waits",
]
