"""Check that batches made beside a busy device are those of the CPU."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from support.synthetic_people import CONFIG, build_task

from reidray.config import AugmentConfig
from reidray.data.device_crops import CopiedCrops, GatheredCrops
from reidray.data.images.crops import CropGroup, CropTable
from reidray.data.prefetch import prefetch
from reidray.training.distributed_context import DistributedContext

COPIES = AugmentConfig(flip=0.5, shift=0.2, erasing=0.5)
COUNT, BATCHES, BATCH_SIZE = 512, 24, 96


def check_input(device):
    """Compare crops and augmented batches, bit by bit, with those of the CPU.

    The device is busy while batches are made, so that a copy or a batch that nobody waits for, and
    memory that is given out too early, give other pixels.
    """
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (COUNT, 64, 32, 3), dtype=np.uint8)
    table = CropTable([CropGroup(np.arange(COUNT), crops, crops[..., 0])])
    batches = list(random.integers(0, COUNT, (BATCHES, BATCH_SIZE)))
    for reader in (CopiedCrops(table, device), GatheredCrops(table, device)):
        found = _read_beside_work(reader.read(batches), device)
        for indices, batch in zip(batches, found, strict=True):
            expected = torch.from_numpy(crops[indices])
            assert torch.equal(batch.images.cpu().permute(0, 2, 3, 1), expected), reader
            assert torch.equal(batch.masks.cpu(), expected[..., 0]), reader
    config = replace(CONFIG, augment=COPIES)
    on_cpu = build_task(config).batches(0)
    on_device = build_task(config, DistributedContext(device=device)).batches(0)
    for expected, batch in zip(on_cpu, _read_beside_work(on_device, device), strict=True):
        for name, values in vars(expected).items():
            found = getattr(batch, name)
            assert found is values is None or torch.equal(found.cpu(), values), name
    return "the same bits, copied and gathered, beside a busy device"


def _read_beside_work(batches, device):
    """Return batches that a thread makes ahead; the device first uses each one after other work."""
    side = 4096 if device.type == "cuda" else 64
    factor = torch.rand(side, side, device=device)
    with closing(prefetch(batches, device=device)) as upcoming:
        kept = []
        for batch in upcoming:
            for _ in range(3):
                factor = (factor @ factor).clamp(0, 1)
            copies = {
                name: None if values is None else values.clone()
                for name, values in vars(batch).items()
            }
            kept.append(replace(batch, **copies))
        return kept
