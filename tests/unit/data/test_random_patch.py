"""Patches come from other training crops, the same ones for any number of workers."""

from dataclasses import replace

import numpy as np
import torch
from support.synthetic_people import CONFIG, build_task

from reidray.config import AugmentConfig
from reidray.data.augmentations import AugmentPlan, augment, draw_donors, plan_augmentation
from reidray.training.distributed_context import DistributedContext

PATCHES = AugmentConfig(flip=0, shift=0, random_patch=0.8)


def crops(count, height=20, width=10):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def plan_of(*parameters):
    return AugmentPlan({"random_patch": torch.tensor([parameters])})


def test_a_patch_of_a_donor_covers_a_rectangle_and_leaves_the_rest():
    images, donors = crops(1), crops(4)
    plan = plan_of(0.5, 0.2, 0.25, 0.4, 0.6, 0.1, 0.5, 0)
    result = augment(images, plan, fill=0, donors=donors)
    assert torch.equal(result[0, :, 10:15, 2:6], donors[2, :, 2:7, 5:9].float())
    result[0, :, 10:15, 2:6] = images[0, :, 10:15, 2:6].float()
    assert torch.equal(result, images.float())


def test_a_patch_may_be_mirrored():
    images, donors = crops(1), crops(4)
    plan = plan_of(0.5, 0.2, 0.25, 0.4, 0.6, 0.1, 0.5, 1)
    result = augment(images, plan, fill=0, donors=donors)
    assert torch.equal(result[0, :, 10:15, 2:6], donors[2, :, 2:7, 5:9].flip(2).float())


def test_every_drawn_patch_is_a_piece_of_its_donor():
    """Red is a donor's number, green a pixel's row and blue its column."""
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(24), indexing="ij")
    place = torch.stack([torch.zeros_like(rows), rows, columns]).byte()
    donors = place.repeat(30, 1, 1, 1)
    donors[:, 0] = torch.arange(1, 31, dtype=torch.uint8)[:, None, None]
    plan = plan_augmentation(PATCHES, 400, seed=0, epoch=0, step=0)
    images = torch.zeros(400, 3, 40, 24, dtype=torch.uint8)
    results = augment(images, plan, fill=0, donors=donors)
    covered = results[:, 0] > 0
    shares = covered.float().mean(dim=(1, 2))
    assert 0.75 < (shares > 0).float().mean() < 0.85
    assert 0.44 < shares.max() < 0.53
    mirrored = set()
    for result, inside in zip(results, covered, strict=True):
        if not inside.any():
            continue
        chosen_rows, chosen_columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
        top, bottom = int(chosen_rows.min()), int(chosen_rows.max()) + 1
        left, right = int(chosen_columns.min()), int(chosen_columns.max()) + 1
        patch = result[:, top:bottom, left:right]
        assert len(patch[0].unique()) == 1
        assert torch.equal(patch[1], patch[1, :1, :1] + rows[: bottom - top, : right - left])
        steps = set(patch[2].diff(dim=1).flatten().tolist())
        assert steps in (set(), {1.0}, {-1.0})
        mirrored |= steps
    assert mirrored == {1.0, -1.0}


def test_the_donors_of_an_epoch_depend_on_seed_and_epoch_alone():
    donors = draw_donors(PATCHES, 1000, seed=1, epoch=2)
    assert len(set(donors.tolist())) == 256
    assert np.array_equal(donors, draw_donors(PATCHES, 1000, seed=1, epoch=2))
    assert not np.array_equal(donors, draw_donors(PATCHES, 1000, seed=1, epoch=3))
    assert draw_donors(PATCHES, 7, seed=1, epoch=2).tolist() == list(range(7))
    assert not len(draw_donors(AugmentConfig(), 1000, seed=1, epoch=2))


def test_workers_paste_the_patches_that_one_process_pastes():
    config = replace(CONFIG, augment=PATCHES.replace(grayscale=0.3, pad_crop=2))
    whole = list(build_task(config).batches(1))
    plain = list(build_task(replace(CONFIG, augment=AugmentConfig(flip=0, shift=0))).batches(1))
    for rank in range(2):
        context = DistributedContext(rank=rank, world_size=2)
        for step, batch in enumerate(build_task(config, context).batches(1)):
            people = whole[step].crops.unflatten(0, (4, 2))[rank::2].flatten(0, 1)
            assert torch.equal(batch.crops, people)
            assert not torch.equal(whole[step].crops, plain[step].crops)
