import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from reidray.config import AugmentConfig
from reidray.data.transforms import AugmentPlan, augment, plan_augmentation

NONE = AugmentConfig(flip=0, shift=0)


def crops(count=6, height=32, width=16):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def still(count, **changes):
    plan = {
        "flip": torch.zeros(count, dtype=torch.bool),
        "rotation": torch.zeros(count),
        "shear": torch.zeros(count),
        "zoom": torch.ones(count),
        "shift": torch.zeros(count, 2),
        "brightness": torch.ones(count),
        "contrast": torch.ones(count),
        "erase": torch.zeros(count, 4),
    }
    return AugmentPlan(**(plan | changes))


def test_nothing_asked_for_changes_nothing():
    images = crops()
    plan = plan_augmentation(NONE, len(images), seed=0, epoch=0, step=0)
    assert torch.equal(augment(images, plan, fill=0), images.float())


def test_flip_is_a_mirror_image_of_the_chosen_crops_alone():
    images = crops(2)
    result = augment(images, still(2, flip=torch.tensor([True, False])), fill=0)
    assert torch.equal(result[0], reference.horizontal_flip(images[0]).float())
    assert torch.equal(result[1], images[1].float())


def test_shift_moves_whole_pixels_and_fills_what_comes_in():
    images = crops(1)
    result = augment(images, still(1, shift=torch.tensor([[0.25, -0.125]])), fill=7)
    expected = reference.affine(
        images, angle=0, translate=[4, -4], scale=1, shear=[0, 0], fill=[7.0, 7.0, 7.0]
    )
    assert torch.equal(result, expected.float())


@pytest.mark.parametrize("degrees", [-12.0, 5.0, 30.0])
@pytest.mark.parametrize("zoom", [0.9, 1.0, 1.2])
def test_rotation_and_zoom_give_torchvision_s_pixels(degrees, zoom):
    images = crops(1).float()
    plan = still(1, rotation=torch.deg2rad(torch.tensor([degrees])), zoom=torch.tensor([zoom]))
    result = augment(images.to(torch.uint8), plan, fill=0)
    expected = reference.affine(
        images,
        angle=degrees,
        translate=[0, 0],
        scale=zoom,
        shear=[0, 0],
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    assert (result - expected).abs().max() < 0.5


def test_brightness_gives_torchvision_s_pixels():
    images = crops(1)
    result = augment(images, still(1, brightness=torch.tensor([1.2])), fill=0)
    expected = reference.adjust_brightness(images.float() / 255, 1.2) * 255
    assert torch.allclose(result, expected, atol=1e-3)


def test_erasing_fills_a_rectangle_and_leaves_the_rest():
    images = crops(1, 20, 10)
    result = augment(images, still(1, erase=torch.tensor([[0.5, 0.2, 0.25, 0.4]])), fill=3)
    assert (result[0, :, 10:15, 2:6] == 3).all()
    result[0, :, 10:15, 2:6] = images[0, :, 10:15, 2:6].float()
    assert torch.equal(result, images.float())


def test_a_share_of_a_batch_is_augmented_as_within_the_whole():
    images = crops(8)
    config = AugmentConfig(flip=0.5, rotation=10, zoom=0.1, brightness=0.2, erasing=0.5)
    plan = plan_augmentation(config, 8, seed=3, epoch=1, step=5)
    whole = augment(images, plan, fill=9)
    mine = torch.tensor([1, 3, 5, 7])
    assert torch.allclose(augment(images[mine], plan.take(mine), fill=9), whole[mine], atol=1e-4)


def test_the_next_step_draws_other_parameters():
    config = AugmentConfig(shift=0.3)
    first = plan_augmentation(config, 8, seed=3, epoch=1, step=5)
    assert torch.equal(first.shift, plan_augmentation(config, 8, seed=3, epoch=1, step=5).shift)
    assert not torch.equal(first.shift, plan_augmentation(config, 8, seed=3, epoch=1, step=6).shift)
