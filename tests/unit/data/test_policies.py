"""RandAugment and AutoAugment give the pixels of torchvision, and masks follow what they move."""

import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from reidray.config import AugmentConfig
from reidray.data.augmentations import AugmentPlan, augment, augment_masks, plan_augmentation
from reidray.data.augmentations.operations import MOVES, Operation, operation_values
from reidray.data.augmentations.policies import RAND_OPERATIONS, AutoAugment, RandAugment

OFF = AugmentConfig(flip=0, shift=0)
RAND = OFF.replace(rand_augment={"operations": 2, "magnitude": 9})


def crops(count=4, height=24, width=12):
    """Return smooth crops of few levels, whose histograms are uneven."""
    small = torch.randint(30, 200, (count, 3, 4, 3), dtype=torch.uint8)
    return reference.resize(small, [height, width], v2.InterpolationMode.BILINEAR)


def plan_of(*operations, count):
    """Return a plan in which the first crop has operations and the others have none."""
    plan = plan_augmentation(RAND, count, seed=0, epoch=0, step=0)
    drawn = torch.zeros(count, len(operations), 2)
    drawn[0] = torch.tensor([[float(number), value] for number, value in operations])
    return AugmentPlan(plan | {"rand_augment": drawn})


@pytest.mark.parametrize(
    ("operation", "expected", "tolerance"),
    [
        ((Operation.POSTERIZE, 4.0), lambda images: reference.posterize(images, 4), 0),
        ((Operation.POSTERIZE, 8.0), lambda images: images, 0),
        ((Operation.SOLARIZE, 90.0), lambda images: reference.solarize(images, 90), 0),
        ((Operation.INVERT, 0.0), reference.invert, 0),
        ((Operation.EQUALIZE, 0.0), reference.equalize, 0),
        ((Operation.AUTO_CONTRAST, 0.0), reference.autocontrast, 1),
        ((Operation.BRIGHTNESS, 1.6), lambda x: reference.adjust_brightness(x, 1.6), 1),
        ((Operation.COLOR, 0.3), lambda x: reference.adjust_saturation(x, 0.3), 1),
        ((Operation.CONTRAST, 1.7), lambda x: reference.adjust_contrast(x, 1.7), 2),
        ((Operation.SHARPNESS, 0.1), lambda x: reference.adjust_sharpness(x, 0.1), 1),
        ((Operation.SHARPNESS, 1.9), lambda x: reference.adjust_sharpness(x, 1.9), 1),
    ],
)
def test_an_operation_gives_torchvision_s_pixels_in_the_crop_that_drew_it(
    operation, expected, tolerance
):
    images = crops()
    result = augment(images, plan_of(operation, count=4), fill=0)
    difference = (result[0] - expected(images[0]).float()).abs().max()
    assert difference <= tolerance + (0.999 if tolerance else 0)  # torchvision cuts fractions off
    assert torch.equal(result[1:], images[1:].float())


def test_crops_of_one_or_two_levels_are_equalized_and_stretched_as_in_torchvision():
    plain = torch.full((1, 3, 8, 4), 77, dtype=torch.uint8)
    halves = plain.clone()
    halves[..., :2] = 200
    for images in (plain, halves):
        for operation in ("equalize", "auto_contrast"):
            result = augment(images, plan_of((Operation[operation.upper()], 0.0), count=1), fill=0)
            expected = getattr(reference, operation.replace("_", ""))(images)
            assert torch.allclose(result, expected.float(), atol=1.01), operation


def test_operations_apply_in_the_order_in_which_they_are_drawn():
    images = crops(2)
    solarize, equalize = (Operation.SOLARIZE, 120.0), (Operation.EQUALIZE, 0.0)
    result = augment(images, plan_of(solarize, equalize, count=2), fill=0)
    assert torch.equal(result[0], reference.equalize(reference.solarize(images[0], 120)).float())
    result = augment(images, plan_of(equalize, solarize, count=2), fill=0)
    assert torch.equal(result[0], reference.solarize(reference.equalize(images[0]), 120).float())


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ((Operation.SHEAR_X, 0.3), {"shear": [math.degrees(math.atan(0.3)), 0.0]}),
        ((Operation.SHEAR_Y, 0.2), {"shear": [0.0, math.degrees(math.atan(0.2))]}),
        ((Operation.TRANSLATE_X, 0.25), {"translate": [3.0, 0.0]}),
        ((Operation.TRANSLATE_Y, -0.125), {"translate": [0.0, -3.0]}),
        ((Operation.ROTATE, math.radians(20)), {"angle": 20.0}),
    ],
    ids=str,
)
def test_an_operation_moves_pixels_as_torchvision_does_about_the_centre(operation, options):
    images = crops(2)
    still = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]}
    expected = reference.affine(
        images.float(), **(still | options), interpolation=v2.InterpolationMode.BILINEAR
    )
    result = augment(images, plan_of(operation, count=2), fill=0)
    assert (result[0] - expected[0]).abs().max() < 0.1
    assert (result[1] - images[1]).abs().max() < 0.1


def test_moves_follow_each_other_and_then_the_other_moves_of_a_crop():
    images = crops(2)
    drawn = plan_of((Operation.SHEAR_X, 0.2), (Operation.ROTATE, 0.3), count=2)
    # A crop is sheared, then rotated, by the moves of its own too.
    own = {
        "rand_augment": torch.zeros(2, 1, 2),
        "rotation": torch.tensor([0.3, 0.0]),
        "shear": torch.tensor([0.2, 0.0]),
    }
    others = {"zoom": torch.tensor([1.3, 1.0]), "shift": torch.tensor([[0.1, 0], [0, 0]])}
    for more in ({}, others):
        found = augment(images, AugmentPlan(drawn | more), fill=0)
        expected = augment(images, AugmentPlan(drawn | own | more), fill=0)
        assert (found - expected).abs().max() < 0.1


def test_a_mask_follows_what_is_moved_and_nothing_else():
    masks = torch.zeros(32, 40, 20, dtype=torch.uint8)
    masks[:, 4:30, 3:15] = 1
    images = 255 * masks[:, None].expand(-1, 3, -1, -1)
    plan = plan_augmentation(RAND, 32, seed=1, epoch=0, step=0)
    operations = plan["rand_augment"]
    moves = torch.isin(operations[..., 0], torch.tensor([float(each) for each in MOVES]))
    plan["rand_augment"] = operations * moves[..., None]
    moved = augment_masks(masks, plan)
    wrong = (augment(images, plan, fill=0)[:, 0] > 127.5) != moved.bool()
    assert wrong.float().mean() < 0.01
    changed = (moved != masks).flatten(1).any(dim=1)
    once = moves.sum(dim=1) == 1  # two moves may undo each other
    assert torch.equal(changed[once], (operations[once, :, 1] * moves[once]).any(dim=1))
    assert not changed[~moves.any(dim=1)].any()
    plan["rand_augment"] = operations * ~moves[..., None]
    assert torch.equal(augment_masks(masks, AugmentPlan(plan)), masks)


def torchvision_values(name, level_count, level):
    """Return the values of torchvision at a level, either way, in the units of `Operation`."""
    space = {**v2.RandAugment._AUGMENTATION_SPACE, **v2.AutoAugment._AUGMENTATION_SPACE}
    magnitudes, signed = space[name]
    values = magnitudes(level_count, 1, 1)
    value = 0.0 if values is None else float(values[level])
    if name == "Rotate":
        value = math.radians(value)
    if name == "Solarize":
        value *= 255
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return 1 + value, 1 - value
    return (value, -value) if signed else (value, value)


def number_of(name):
    """Return the operation that torchvision calls by a name, such as `ShearX`."""
    return next(each for each in Operation if each.name.replace("_", "") == name.upper())


def test_rand_augment_has_torchvision_s_operations_and_values():
    names = v2.RandAugment._AUGMENTATION_SPACE
    assert {number_of(name) for name in names} == set(RAND_OPERATIONS)
    for name in names:
        for level in (0, 9, 30):
            found = operation_values(number_of(name), level / 30)
            assert found == pytest.approx(torchvision_values(name, 31, level)), (name, level)


def test_rand_augment_draws_each_operation_alike_and_both_ways():
    drawn = plan_augmentation(RAND, 7000, seed=0, epoch=0, step=0)["rand_augment"]
    assert drawn.shape == (7000, 2, 2)
    numbers, counts = drawn[..., 0].unique(return_counts=True)
    assert [Operation(int(number)) for number in numbers] == list(RAND_OPERATIONS)
    assert 850 < counts.min() <= counts.max() < 1150
    for operation in RAND_OPERATIONS:
        values = set(drawn[drawn[..., 0] == operation][:, 1].tolist())
        expected = set(operation_values(operation, 0.3))
        assert sorted(values) == pytest.approx(sorted(expected))


def test_auto_augment_draws_the_sub_policies_of_the_paper_with_their_probabilities():
    count = 40_000
    config = OFF.replace(auto_augment=1.0)
    drawn = plan_augmentation(config, count, seed=0, epoch=0, step=0)["auto_augment"]
    expected, found = {}, {}
    for pair in v2.AutoAugment()._get_policies(v2.AutoAugmentPolicy.IMAGENET):
        outcomes = {(): 1.0}
        for name, probability, level in pair:
            ways = torchvision_values(name, 10, level or 0)
            happening = {
                (number_of(name), round(way, 4)): probability * ways.count(way) / 2 for way in ways
            }
            happening[Operation.IDENTITY, 0.0] = 1 - probability
            outcomes = {
                (*before, each): chance * share
                for before, chance in outcomes.items()
                for each, share in happening.items()
            }
        for outcome, chance in outcomes.items():
            expected[outcome] = expected.get(outcome, 0) + chance / 25
    for crop in drawn.tolist():
        outcome = tuple((Operation(int(number)), round(value, 4)) for number, value in crop)
        found[outcome] = found.get(outcome, 0) + 1 / count
    assert set(found) <= {outcome for outcome, chance in expected.items() if chance}
    assert max(abs(found.get(outcome, 0) - chance) for outcome, chance in expected.items()) < 0.006


def test_auto_augment_takes_the_requested_share_of_crops():
    drawn = plan_augmentation(OFF.replace(auto_augment=0.1), 4000, seed=0, epoch=0, step=0)
    share = (drawn["auto_augment"][..., 0] > 0).any(dim=1).float().mean()
    assert 0.07 < share < 0.1  # some sub-policies do nothing at times
    assert not RandAugment.is_active(torch.zeros(3, 2, 2))
    assert AutoAugment.is_active(drawn["auto_augment"])


def test_a_share_of_a_batch_changes_as_within_the_whole():
    images = crops(12)
    config = RAND.replace(auto_augment=0.5, rotation=5, pad_crop=2)
    plan = plan_augmentation(config, 12, seed=3, epoch=1, step=5)
    whole, mine = augment(images, plan, fill=9), torch.arange(1, 12, 3)
    # An unlike last bit may round to the next level, which equalising spreads.
    differs = (augment(images[mine], plan.take(mine), fill=9) - whole[mine]).abs() > 1e-3
    assert differs.float().mean() < 0.01


def test_a_crop_moves_alike_whatever_the_others_in_its_share_draw():
    images = crops(24)
    config = OFF.replace(auto_augment=0.6, shift=0.1, flip=0.5)  # shifts alone are whole pixels
    plan = plan_augmentation(config, 24, seed=3, epoch=1, step=5)
    whole = augment(images, plan, fill=9)
    alone = [augment(images[[crop]], plan.take(torch.tensor([crop])), fill=9) for crop in range(24)]
    assert ((torch.cat(alone) - whole).abs() > 1e-3).float().mean() < 0.01
    resting = (plan["auto_augment"][..., 0] == 0).all(dim=1)
    assert 4 < resting.sum() < 20
    assert torch.equal(whole[resting], whole[resting].round())
