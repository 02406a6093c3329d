"""Check that no step waits for the device, with PyTorch's mode that makes waiting an error."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from support.epoch_recorder import EpochRecorder
from support.labels import make_labels
from support.synthetic_people import CONFIG, build_network, build_task

from reidray.config import (
    AugmentConfig,
    MultitaskValidationConfig,
    OptimizerConfig,
    TrainMultitaskConfig,
)
from reidray.data.augmentations import augment, image_tensor, plan_augmentation
from reidray.data.images.crops import CropGroup, CropTable
from reidray.inference.device_buffers import download
from reidray.inference.inference_settings import InferenceSettings
from reidray.inference.prediction_loop import prepare_network
from reidray.models import build_model
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit
from reidray.training.tasks.multitask.task import MultitaskTask

PHASES = OptimizerConfig(
    freeze_backbone=0.5, ema_decay=0.99, layer_decay=0.9, schedule="one_cycle", max_grad_norm=1.0
)
"""Every setting of the optimiser that does something in each step. The backbone is released within
the watched steps."""

ALL = AugmentConfig(
    flip=0.5, shift=0.1, rotation=5, zoom=0.1, erasing=0.5, brightness=0.2, contrast=0.2
)
PUBLISHED = AugmentConfig(
    pad_crop=4,
    grayscale=0.1,
    local_grayscale=0.4,
    random_patch=0.5,
    auto_augment=0.3,
    rand_augment={"operations": 2},
)


@contextmanager
def waiting_is_an_error(device):
    """Make PyTorch raise an error where any thread waits for the GPU."""
    _set_mode(device, "error")
    try:
        yield
    finally:
        _set_mode(device, "default")


def _set_mode(device, mode):
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode(mode)


class WatchedTask:
    """Make waiting an error within the steps of each epoch after the first.

    The first step of an epoch may wait, and so may what follows the start of its last step: the
    losses are read there.
    """

    def __init__(self, task, device):
        self._task, self._device = task, device
        self.steps_per_epoch = task.steps_per_epoch
        self.validation_images = task.validation_images
        self.prepare, self.batch_size, self.validate = task.prepare, task.batch_size, task.validate
        self.training_metrics = task.training_metrics
        self._step, self.watched = 0, 0

    def batches(self, epoch):
        """Yield the batches of the task."""
        return self._task.batches(epoch)

    def losses(self, network, batch):
        """Return the losses of the task, and switch the mode on or off."""
        epoch, step = divmod(self._step, self.steps_per_epoch)
        is_watched = epoch > 0 and 0 < step < self.steps_per_epoch - 1
        _set_mode(self._device, "error" if is_watched else "default")
        self.watched += is_watched
        self._step += 1
        return self._task.losses(network, batch)


def check_reid_steps(device):
    """Train on people, with every augmentation that is common, and with a frozen backbone first."""
    config = replace(CONFIG, augment=ALL)
    task = build_task(config, DistributedContext(device=device))
    return _train(task, build_network(), CONFIG.validation, device, PHASES)


def check_multitask_steps(device):
    """Train on classes and masks."""
    count = 96
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    masks = random.integers(0, 2, (count, 32, 32), dtype=np.uint8)
    labels = make_labels(
        np.full(count, -1), class_labels=np.arange(count) % 3, classes=("a", "b", "c")
    )
    is_train = np.arange(count) < 80
    task = MultitaskTask(
        TrainMultitaskConfig(data="-", task="pets", batch_size=8, augment=ALL),
        {"train": labels.take(is_train), "val": labels.take(~is_train)},
        CropTable([CropGroup(np.arange(count), images, masks)]),
        DistributedContext(device=device),
    )
    network = build_model("pets_scratch_transpose", height=32, width=32, num_classes=3)
    return _train(task, network, MultitaskValidationConfig(), device, OptimizerConfig())


def _train(task, network, validation, device, optimizer):
    watched = WatchedTask(task, device)
    config = TrainerConfig(
        epochs=3,
        seed=0,
        optimizer=optimizer,
        validation=validation,
        bf16=device.type == "cuda",
    )
    try:
        fit(watched, network, config, EpochRecorder(), context=DistributedContext(device=device))
    finally:
        _set_mode(device, "default")
    assert watched.watched, "an epoch has too few steps to watch"
    return f"{watched.watched} steps without waiting"


def check_augmentation(device):
    """Augment a batch that is on the device."""
    crops = np.random.default_rng(0).integers(0, 256, (32, 64, 32, 3), dtype=np.uint8)
    on_device = image_tensor(crops, device)
    for config in (AugmentConfig(flip=0.5, shift=0.1, erasing=0.5), ALL, PUBLISHED):
        plan = plan_augmentation(config, len(crops), seed=0, epoch=0, step=0)
        augment(on_device, plan, fill=117.0)
        with waiting_is_an_error(device):
            augment(on_device, plan, fill=117.0)
    return "copies, warps, patches and policies without waiting"


def check_embedding_loop(model, device):
    """Embed several batches, and copy the predictions back."""
    options = model.architecture
    size = options.height, options.width
    network = prepare_network(model.network, size, InferenceSettings("bf16"), device)
    shape = (network.batch_size, *size, 3)
    crops = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batches = download(network.predict(iter([[crops]] * 8)))
    for _ in range(2):
        next(batches)
    with waiting_is_an_error(device):
        count = sum(1 for _ in batches)
    return f"{count} batches without waiting"
