"""Batches for a GPU are made without waiting for it.

The device `meta` stands for the GPU: whoever reads a value there raises, and so do the operators
whose output size depends on values.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.labels import make_labels
from support.synthetic_people import CONFIG, build_network, build_task
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from reidray.config import AugmentConfig, TrainMultitaskConfig
from reidray.data.augmentations import (
    AUGMENTATIONS,
    Augmentation,
    AugmentPlan,
    augment,
    augment_masks,
    plan_augmentation,
)
from reidray.data.device_crops import GatheredCrops
from reidray.data.images.crops import CropGroup, CropTable
from reidray.models import build_model
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.multitask.label_evaluation import run_network
from reidray.training.tasks.multitask.task import MultitaskTask
from reidray.training.tasks.reid.validation import embed_crops

META = torch.device("meta")
COPYING = AugmentConfig(flip=0.5, shift=0.1, erasing=0.8)
COLOURS = COPYING.replace(brightness=0.2, contrast=0.2, saturation=0.3, hue=0.1)
WARPING = COLOURS.replace(rotation=5, shear=5, zoom=0.1, crop=0.2)
PATCHING = COPYING.replace(pad_crop=2, grayscale=0.5, local_grayscale=0.5, random_patch=0.8)
POLICIES = COPYING.replace(rand_augment={"operations": 4, "magnitude": 9}, auto_augment=0.9)
ALL = [COPYING, COLOURS, WARPING, PATCHING, POLICIES]


class WaitCounter(TorchDispatchMode):
    """Count the copies to a device, and those that the host waits for."""

    def __init__(self):
        super().__init__()
        self.copies = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        name = function.overloadpacket.__name__
        if name in ("_to_copy", "copy_") and result.device == META:
            source = arguments[1] if name == "copy_" else arguments[0]
            if source.device != META:
                waits = not (named or {}).get("non_blocking", len(arguments) > 2 and arguments[2])
                self.copies["waiting" if waits else "free"] += 1
        return result


class KernelCounter(TorchDispatchMode):
    """Count the operators that launch a kernel on the device, by name."""

    VIEWS = frozenset(("detach", "expand", "permute", "select", "slice", "unsqueeze", "view"))

    def __init__(self):
        super().__init__()
        self.kernels = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        name = function.overloadpacket.__name__
        is_view = name in self.VIEWS or name.startswith(("split", "empty"))
        if isinstance(result, torch.Tensor) and result.device == META and not is_view:
            self.kernels[name] += 1
        return result


class PinningNothing(TorchDispatchMode):
    """Leave tensors of the CPU as they are where they would be pinned, which needs a GPU."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function is torch.ops.aten._pin_memory.default:
            return arguments[0]
        return function(*arguments, **(named or {}))


def build_multitask_task(augmentation, context):
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    table = CropTable([CropGroup(np.arange(24), crops, crops[..., 0] % 2)])
    labels = make_labels(np.full(24, -1), class_labels=np.arange(24) % 3, classes=("a", "b", "c"))
    config = TrainMultitaskConfig(data="-", task="pets", batch_size=8, augment=augmentation)
    return MultitaskTask(config, {"train": labels, "val": labels}, table, context)


def build_reid_task(augmentation, context):
    return build_task(replace(CONFIG, augment=augmentation), context)


@pytest.mark.parametrize("augmentation", ALL)
def test_augmentation_on_a_gpu_uses_no_tensor_of_the_cpu(augmentation):
    plan = plan_augmentation(augmentation, 8, seed=0, epoch=0, step=0)
    assert plan.active
    with FakeTensorMode(allow_non_fake_inputs=True), PinningNothing():
        crops = torch.empty((8, 3, 16, 8), dtype=torch.uint8, device="cuda:0")
        assert augment(crops, plan, fill=3).is_cuda
        assert augment_masks(crops[:, 0], plan).is_cuda


def test_mirrors_shifts_and_rectangles_cost_a_gpu_few_kernels():
    plan = plan_augmentation(COPYING, 8, seed=0, epoch=0, step=0)
    crops = torch.empty((8, 16, 8, 3), dtype=torch.uint8, device=META).permute(0, 3, 1, 2)
    with KernelCounter() as counter:
        augment(crops, plan, fill=3)
    # Two copies; gather, convert and fill the pixels; and the numbers and masks to do so.
    assert sum(counter.kernels.values()) <= 9, counter.kernels


def test_rand_augment_costs_a_gpu_the_same_kernels_for_any_number_of_crops():
    counts = []
    for count in (256, 512):
        plan = plan_augmentation(
            AugmentConfig(flip=0, shift=0, rand_augment={"operations": 2, "magnitude": 9}),
            count,
            seed=0,
            epoch=0,
            step=0,
        )
        crops = torch.empty((count, 16, 8, 3), dtype=torch.uint8, device=META).permute(0, 3, 1, 2)
        with KernelCounter() as counter:
            augment(crops, plan, fill=3)
        counts.append(sum(counter.kernels.values()))
    assert counts[0] == counts[1] <= 190, counter.kernels


def test_no_matrix_product_of_the_device_moves_pixels():
    # The network of another thread may have set the products of the process to TF32.
    plan = plan_augmentation(WARPING, 8, seed=0, epoch=0, step=0)
    crops = torch.empty((8, 3, 16, 8), dtype=torch.uint8, device=META)
    with KernelCounter() as counter:
        augment(crops, plan, fill=3)
    assert not {"mm", "bmm", "addmm", "baddbmm"} & set(counter.kernels)


@pytest.mark.parametrize("augmentation", ALL)
@pytest.mark.parametrize("build", [build_reid_task, build_multitask_task])
def test_the_batches_of_a_task_do_not_wait_for_the_device(build, augmentation):
    on_cpu = list(build(augmentation, DistributedContext()).batches(1))
    task = build(augmentation, DistributedContext(device=META))
    with WaitCounter() as counter:
        on_device = list(task.batches(1))
    assert counter.copies["waiting"] == 0
    # Of each batch the crops and the masks, each with the sources of its pixels and its map, the
    # parameters, the rectangles and the patches; and the labels and the donors of the epoch.
    assert counter.copies["free"] <= 12 * len(on_device) + 4
    for expected, batch in zip(on_cpu, on_device, strict=True):
        for name, values in vars(expected).items():
            found = getattr(batch, name)
            if values is None:
                assert found is None
                continue
            assert found.device == META
            assert (found.shape, found.dtype) == (values.shape, values.dtype)
        images = next(iter(vars(batch).values()))
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_crops_on_the_device_are_gathered_by_one_copy_of_an_epoch_s_positions():
    crops = np.zeros((9, 4, 2, 3), dtype=np.uint8)
    table = CropTable([CropGroup(np.arange(9), crops, crops[..., 0])])
    resident = GatheredCrops(table, META)
    with WaitCounter() as counter:
        batches = list(resident.read([np.array([3, 1]), np.array([8])]))
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 3, 4, 2), (1, 3, 4, 2)]
    assert [tuple(batch.masks.shape) for batch in batches] == [(2, 4, 2), (1, 4, 2)]
    assert counter.copies == {"free": 1}


def build_resident(side):
    crops = np.zeros((9, side, side, 3), dtype=np.uint8)
    return GatheredCrops(CropTable([CropGroup(np.arange(9), crops, crops[..., 0])]), META)


def test_validation_does_not_wait_for_the_device():
    indices, network = np.arange(9), build_network().eval().to(META)
    outputs = embed_crops(network, build_resident(32), indices, with_features=True)
    assert outputs.embedding.shape == outputs.metric_feature.shape == (9, network.embedding_size)
    assert [logits.shape for logits in outputs.attributes] == [(9, 2)]
    pets = build_model("pets_scratch_transpose", height=32, width=32, num_classes=3)
    outputs = run_network(pets.eval().to(META), build_resident(32), indices, META)
    assert outputs.masks.shape == (9, 5)


def test_only_an_augmentation_that_asks_for_it_gets_its_parameters_on_the_device(monkeypatch):
    class Own(Augmentation):
        seen: torch.device | None = None

        @staticmethod
        def draw(_options, count, random):
            return torch.rand(count, generator=random)

        @staticmethod
        def apply(images, parameters, _fill):
            Own.seen = parameters.device
            return images

    monkeypatch.setitem(AUGMENTATIONS._entries, "own", Own)
    plan = plan_augmentation(COPYING, 4, seed=0, epoch=0, step=0)
    crops = torch.empty((4, 3, 8, 4), dtype=torch.uint8, device=META)
    for on_device, device in ((False, "cpu"), (True, "meta")):
        monkeypatch.setattr(Own, "parameters_on_device", on_device)
        augment(crops, AugmentPlan(plan | {"own": torch.ones(4)}), fill=0)
        assert Own.seen == torch.device(device)
