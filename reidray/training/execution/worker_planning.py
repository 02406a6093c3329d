"""Plan the number of training processes on a Ray cluster, and the resources of each."""

from collections.abc import Callable
from dataclasses import dataclass

import ray

from reidray.cluster_resources import ClusterCapacity, cluster_capacity
from reidray.config import TrainingConfig
from reidray.errors import UserError
from reidray.training.execution.resources import Resources, Result

SHARE_BESIDE_DECODING = 0.5
"""Share of its CPUs that training reserves while it streams crops. Ray Data would wait without end
if training reserved all CPUs."""

MAX_CPUS_PER_GPU = 8
"""CPUs at most that a worker with a GPU reserves."""


@dataclass(frozen=True)
class RayResources(Resources):
    """Hold the resources that Ray reserves for each training process."""

    def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a function in a Ray task with these resources, and return its result."""
        reserved = self.reserved
        task = ray.remote(num_cpus=reserved["CPU"], num_gpus=reserved.get("GPU", 0))(function)
        result: Result = ray.get(task.remote(*arguments))
        return result


def plan_workers(num_workers: int, use_gpu: str, *, streams: bool = False) -> Resources:
    """Return the resources that the cluster can give to each worker, once it has grown.

    Args:
        num_workers: number of training processes.
        use_gpu: `yes`, `no`, or `auto` for GPUs where the cluster may have them.
        streams: whether crops are decoded during the training.

    Raises:
        UserError: the cluster can never have enough CPUs or GPUs for the workers.
    """
    share = SHARE_BESIDE_DECODING if streams else 1.0
    capacity = cluster_capacity()
    if trains_on_gpus(capacity, use_gpu):
        if num_workers > capacity.gpus:
            lower = "lower `num_workers`, or " if num_workers > 1 else ""
            raise UserError(
                f"{_describe_need(num_workers, 'GPU')} and the cluster {capacity.describe()}: "
                f"{lower}train on CPUs with `use_gpu=no`"
            )
        cpus = _cpus_beside_gpu(capacity, num_workers)
        return RayResources(use_gpu=True, cpus=cpus, share=share)
    nodes = [int(node.get("CPU", 0)) for node in capacity.most]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= num_workers:
            return RayResources(use_gpu=False, cpus=cpus, share=share)
    raise UserError(
        f"{_describe_need(num_workers, 'CPU')} and the cluster {capacity.describe()}: "
        "lower `num_workers`, or start Ray with more CPUs"
    )


def trains_on_gpus(capacity: ClusterCapacity, use_gpu: str) -> bool:
    """Return whether workers get GPUs."""
    return use_gpu == "yes" or (use_gpu == "auto" and capacity.gpus > 0)


def plan_counts(config: TrainingConfig) -> tuple[int, ...]:
    """Return the numbers of workers that a training may have, in ascending order.

    A fixed training has one. An elastic one, with `min_workers`, has each number up to
    `num_workers` among which a batch can be divided evenly, so that all workers weigh the same in
    the gradient. `num_workers=auto` means all GPUs that the cluster may grow to, or one worker on
    each node where it has none.

    Raises:
        UserError: no number divides the batch.
    """
    least, most = config.min_workers, config.num_workers
    if most == "auto":
        capacity = cluster_capacity()
        on_gpus = trains_on_gpus(capacity, config.use_gpu)
        most = capacity.gpus if on_gpus else sum(node.get("CPU", 0) >= 1 for node in capacity.most)
        even = even_counts(config, range(1, max(most, 1) + 1))
        if least is None:
            return even[-1:]
    elif least is None:
        return (most,)
    counts = even_counts(config, range(least, most + 1))
    if not counts:
        possible = ", ".join(map(str, even_counts(config, range(1, config.images_per_batch + 1))))
        raise UserError(
            f"`min_workers={least}`: a batch of {config.describe_batch()} divides evenly among "
            f"{possible} workers, and none of these numbers lies in {least}..{most}: change the "
            f"range, or `{config.BATCH_FIELD}`"
        )
    return counts


def even_counts(config: TrainingConfig, counts: range) -> tuple[int, ...]:
    """Return the numbers of workers that get equal shares of a batch, of 2 people or images each.

    Where `auto_batch` finds the batch, any number does.
    """
    if config.auto_batch:
        return tuple(counts)
    units = config.images_per_batch // config.batch_step
    return tuple(count for count in counts if units % count == 0 and units >= 2 * count)


def _cpus_beside_gpu(capacity: ClusterCapacity, num_workers: int) -> int:
    """Return the CPUs of each worker with a GPU, which every node with GPUs can give."""
    shares = sorted(
        (int(node.get("CPU", 0) // node["GPU"]), int(node["GPU"])) for node in capacity.gpu_nodes
    )
    while len(shares) > 1 and sum(gpus for _, gpus in shares[1:]) >= num_workers:
        del shares[0]  # nodes with few CPUs, where enough others have GPUs
    return max(1, min(shares[0][0], MAX_CPUS_PER_GPU))


def _describe_need(num_workers: int, kind: str) -> str:
    """Return what workers need, such as `2 workers need a GPU each`."""
    each = f"{num_workers} workers need a {kind} each"
    return f"1 worker needs a {kind}" if num_workers == 1 else each
