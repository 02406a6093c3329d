"""Compute what a training takes from measured costs: time, memory, and what decides them."""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal

from reidray.inference.planning.measured_costs import Cost, rounded

HOUR = 3600.0

READING, DECODING, STEPS, VALIDATION = "reading files", "decoding", "training steps", "validation"

FORWARD_SHARE = 1 / 3
"""Time of the network for a validation image, as a share of that for a training image, whose
backward pass takes twice the time of its forward pass."""


@dataclass(frozen=True, kw_only=True)
class TrainingSize:
    """Hold the sizes of a training.

    Attributes:
        images: number of images of all splits, which are decoded once.
        validation_images: number of images of a validation.
        epochs: number of epochs.
        validations: number of validations.
        steps_per_epoch: steps of an epoch.
        images_per_batch: images of a global batch.
        batch_step: images by which a batch grows, such as those of a person.
        crop_bytes: bytes of all decoded crops.
        max_seconds: time limit of the job; None for no limit.
    """

    images: int
    validation_images: int
    epochs: int
    validations: int
    steps_per_epoch: int
    images_per_batch: int
    batch_step: int
    crop_bytes: int
    max_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingMachines:
    """Hold the machines of a training.

    Attributes:
        nodes: number of nodes that train.
        workers: number of training processes.
        on_gpu: whether each has a GPU.
        mode: `resident` decodes the images once, `stream` in each epoch.
        decoders: number of CPUs that decode before the training.
        decoders_beside: number of CPUs that decode beside the training, as a stream.
        overlaps_reading: whether files are read while others are decoded, as from an object store.
    """

    nodes: int
    workers: int
    on_gpu: bool
    mode: Literal["resident", "stream"]
    decoders: int
    decoders_beside: int
    overlaps_reading: bool


@dataclass(frozen=True, kw_only=True)
class TrainingCosts:
    """Hold what the parts of a training cost.

    Attributes:
        read: seconds to read the file of an image.
        decode: seconds to decode an image.
        step: seconds of a step of one worker, on its share of a batch.
        peak_bytes: largest memory of a worker.
        gpu_bytes: largest memory of its GPU.
    """

    read: Cost
    decode: Cost
    step: Cost
    peak_bytes: int
    gpu_bytes: int


@dataclass(frozen=True)
class TrainingEstimate:
    """Hold what a training takes.

    Attributes:
        preparation: seconds of the decoding, or its check, before the training.
        epoch: seconds of an epoch, without validation.
        total: seconds of the preparation, all epochs and their validations.
        stages: seconds that each part would take if it were the only one.
        binds: the part that decides the time.
        epochs_in_time: number of epochs within the time limit; None without one.
        suggested_workers: number of workers.
        reason: why this number.
        cpus_per_worker: CPUs that decode a stream as fast as a worker trains; None without one.
        memory_bytes: memory of a node.
    """

    preparation: Cost
    epoch: Cost
    total: Cost
    stages: dict[str, Cost]
    binds: str
    epochs_in_time: int | None
    suggested_workers: int
    reason: str
    cpus_per_worker: int | None
    memory_bytes: float


def estimate_training(
    size: TrainingSize, machines: TrainingMachines, costs: TrainingCosts
) -> TrainingEstimate:
    """Return what a training takes.

    With r and d seconds to read and decode an image, p = r + d for files on a disk and
    p = max(r, d) in an object store, C CPUs that decode, s seconds of a step on B images:

    | what | seconds |
    |---|---|
    | preparation of N images | N p / C |
    | epoch of S steps, resident | S s |
    | epoch of S steps, stream | max(S s, S B p / C) |
    | validation of V images | V s / 3 B |

    Args:
        size: the sizes of the training.
        machines: the machines.
        costs: what its parts cost.
    """
    read, decode = costs.read, costs.decode
    prepare = read.at_least(decode) if machines.overlaps_reading else read + decode
    streams = machines.mode == "stream"
    drawn = size.steps_per_epoch * size.images_per_batch
    again = size.epochs * drawn / machines.decoders_beside if streams else 0.0
    per_decoder = size.images / machines.decoders + again
    validation = costs.step * (
        size.validation_images * FORWARD_SHARE / size.images_per_batch * size.validations
    )
    preparation = prepare * (size.images / machines.decoders)
    steps = costs.step * size.steps_per_epoch
    epoch = steps
    if streams:
        epoch = steps.at_least(prepare * (drawn / machines.decoders_beside))
    total = preparation + epoch * size.epochs + validation
    stages = {
        READING: read * per_decoder,
        DECODING: decode * per_decoder,
        STEPS: steps * size.epochs,
        VALIDATION: validation,
    }
    cpus_per_worker = None
    image_seconds = costs.step.seconds * machines.workers / size.images_per_batch
    if streams:
        cpus_per_worker = ceil(prepare.seconds / image_seconds)
    suggested, reason = _suggest_workers(
        size,
        one_worker=image_seconds * drawn * size.epochs + validation.seconds * machines.workers,
        before=preparation.seconds,
        most=machines.decoders_beside // cpus_per_worker if cpus_per_worker else None,
    )
    crops = 0 if streams else size.crop_bytes
    workers_per_node = ceil(machines.workers / machines.nodes)
    return TrainingEstimate(
        preparation,
        epoch,
        total,
        stages,
        max(stages, key=lambda name: stages[name].seconds),
        _epochs_in_time(size, preparation, epoch, validation),
        suggested,
        reason,
        cpus_per_worker,
        crops + workers_per_node * costs.peak_bytes,
    )


def _epochs_in_time(
    size: TrainingSize, preparation: Cost, epoch: Cost, validation: Cost
) -> int | None:
    """Return the number of epochs within the time limit, if there is one."""
    if size.max_seconds is None:
        return None
    each = epoch.seconds + validation.seconds / size.epochs
    return min(size.epochs, max(0, floor((size.max_seconds - preparation.seconds) / each)))


def _suggest_workers(
    size: TrainingSize, *, one_worker: float, before: float, most: int | None
) -> tuple[int, str]:
    """Return the fewest workers for an hour that share a batch evenly, as far as they help.

    Args:
        size: the sizes of the training.
        one_worker: seconds in which one worker trains and validates.
        before: seconds of the preparation.
        most: number of workers for which CPUs decode fast enough; None where all crops are decoded
            before.
    """
    units = size.images_per_batch // size.batch_step
    counts = [count for count in range(1, units + 1) if not units % count and units >= 2 * count]
    counts, reason = counts or [1], "each has two units of a batch"
    if most is not None and most < counts[-1]:
        counts = [count for count in counts if count <= most] or [1]
        reason = "the CPUs decode for no more of them"
    left = HOUR - before
    for count in counts:
        if left > 0 and one_worker / count <= left:
            return count, "the fewest that end within an hour"
    if left <= 0:
        reason = f"the decoding alone takes more than an hour; {reason}"
    return counts[-1], reason


def estimate_to_json(estimate: TrainingEstimate, nodes: int) -> dict[str, Any]:
    """Return an estimate as the JSON line of the job, in two digits.

    Args:
        estimate: the estimate.
        nodes: number of nodes.
    """
    sums = sum(cost.seconds for cost in estimate.stages.values())
    return {
        "preparation": estimate.preparation.to_minutes(),
        "epoch": estimate.epoch.to_minutes(),
        "total": estimate.total.to_minutes(),
        "node_hours": rounded(estimate.total.seconds * nodes / HOUR),
        "binds": estimate.binds,
        "stages": {
            name: {**cost.to_minutes(), "share": rounded(cost.seconds / sums)}
            for name, cost in estimate.stages.items()
        },
        "epochs_in_time": estimate.epochs_in_time,
        "memory_gb_per_node": rounded(estimate.memory_bytes / 1e9),
        "cpus_per_worker": estimate.cpus_per_worker,
        "suggested_workers": estimate.suggested_workers,
        "reason": estimate.reason,
    }
