import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from reidray.config import AugmentConfig
from reidray.data.augmentations import AugmentPlan, augment, augment_masks, plan_augmentation
from reidray.data.augmentations.geometry import affine_points

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
        "erasing": torch.zeros(count, 4),
        "crop": torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1),
        "saturation": torch.ones(count),
        "hue": torch.zeros(count),
    }
    return AugmentPlan(plan | changes)


def test_an_empty_plan_changes_nothing():
    plan = plan_augmentation(NONE, 6, seed=0, epoch=0, step=0)
    for images in (crops(), crops() // 40, crops() * (crops() > 250)):
        assert torch.equal(augment(images, plan, fill=0), images.float())
        assert torch.equal(augment_masks(images[:, 0], plan), images[:, 0])


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


# Turned a little at least: what only shifts moves by whole pixels, and in a crop that is not turned
# whole rows lie just between two pixels.
moves = st.fixed_dictionaries(
    {
        "angle": st.floats(-60, -0.5) | st.floats(0.5, 60),
        "shear": st.floats(-40, 40),
        "scale": st.floats(0.6, 1.6),
        "translate": st.tuples(st.floats(-8, 8), st.floats(-8, 8)),
    }
)


def planned(move, height, width):
    """The plan of one crop of what torchvision is told."""
    x, y = move["translate"]
    return still(
        1,
        rotation=torch.deg2rad(torch.tensor([move["angle"]])),
        shear=torch.tan(torch.deg2rad(torch.tensor([move["shear"]]))),
        zoom=torch.tensor([move["scale"]]),
        shift=torch.tensor([[x / width, y / height]]),
    )


def in_torchvision(images, move, **options):
    translate, shear = list(move["translate"]), [move["shear"], 0.0]
    return reference.affine(images, move["angle"], translate, move["scale"], shear, **options)


@given(moves, st.sampled_from([(32, 16), (20, 20), (12, 30)]))
def test_an_affine_move_gives_torchvision_s_pixels(move, size):
    images = crops(1, *size)
    plan = planned(move, *size)
    # torchvision mixes a fill in twice where a pixel lies half outside; 0 has nothing to mix in.
    expected = 90 + in_torchvision(
        images.float() - 90, move, interpolation=v2.InterpolationMode.BILINEAR
    )
    assert (augment(images, plan, fill=90) - expected).abs().max() < 0.1
    masks = images[:, 0] % 2
    wrong = augment_masks(masks, plan) != in_torchvision(masks[:, None], move)[:, 0]
    assert wrong.float().mean() < 0.02  # of two pixels equally near, either


def test_an_elastic_deformation_moves_the_points_and_what_lies_between_them():
    images = crops(2, 33, 33)
    together = torch.tensor([0.25, -0.125]).view(2, 1, 1).expand(2, 2, 3, 3)
    expected = reference.affine(
        images, 0, [33 / 4, -33 / 8], 1, [0.0], v2.InterpolationMode.BILINEAR, fill=[5.0]
    )
    moved = augment(images, still(2, elastic=together), fill=5)
    assert (moved - expected).abs()[..., 8:-8, 9:-8].max() < 1
    middle = torch.zeros(2, 2, 3, 3)
    middle[1, 0, 1, 1] = 4 / 33  # the second crop alone, its middle to the right
    still_image, pulled = augment(images, still(2, elastic=middle), fill=5)
    assert (still_image - images[0]).abs().max() < 0.1
    assert (pulled[:, 16, 16] - images[1, :, 16, 12]).abs().max() < 0.1
    corners = (torch.tensor([0, 0, 32, 32]), torch.tensor([0, 32, 0, 32]))
    assert (pulled[:, *corners] - images[1][:, *corners]).abs().max() < 0.1


def test_a_mask_goes_where_its_crop_goes():
    config = AugmentConfig(flip=0.5, rotation=25, shear=15, zoom=0.3, shift=0.2, elastic=0.03)
    plan = plan_augmentation(config, 16, seed=1, epoch=0, step=0)
    masks = torch.zeros(16, 48, 40, dtype=torch.uint8)
    masks[:, 6:30, 4:20] = 1
    images = 255 * masks[:, None].expand(-1, 3, -1, -1)
    moved = augment_masks(masks, plan)
    assert moved.dtype == torch.uint8
    assert moved.shape == masks.shape
    wrong = (augment(images, plan, fill=0)[:, 0] > 127.5) != moved.bool()
    assert wrong.float().mean() < 0.01
    assert len({mask.numpy().tobytes() for mask in moved}) == 16


def test_a_mask_that_is_shifted_keeps_whole_pixels_and_background_comes_in():
    masks = torch.ones(1, 8, 4, dtype=torch.uint8)
    moved = augment_masks(masks, still(1, shift=torch.tensor([[0.25, -0.5]])))
    assert moved[0].tolist() == [[0, 1, 1, 1]] * 4 + [[0, 0, 0, 0]] * 4


def test_colours_and_erasing_leave_a_mask_alone():
    config = AugmentConfig(flip=0, shift=0, brightness=0.5, contrast=0.5, erasing=1)
    plan = plan_augmentation(config, 6, seed=0, epoch=0, step=0)
    masks = crops()[:, 0] % 2
    assert torch.equal(augment_masks(masks, plan), masks)


def test_brightness_gives_torchvision_s_pixels():
    images = crops(1)
    result = augment(images, still(1, brightness=torch.tensor([1.2])), fill=0)
    expected = reference.adjust_brightness(images.float() / 255, 1.2) * 255
    assert torch.allclose(result, expected, atol=1e-3)


def test_a_window_fills_the_crop_again():
    images = crops(1, 32, 16)
    plan = still(1, crop=torch.tensor([[0.25, 0.5, 0.5, 0.25]]))
    expected = reference.resized_crop(
        images.float(), 8, 8, 16, 4, [32, 16], v2.InterpolationMode.BILINEAR, antialias=False
    )
    inside = (0, slice(None), slice(1, -1), slice(2, -2))  # torchvision repeats the cut-out's rim
    assert torch.allclose(augment(images, plan, fill=0)[inside], expected[inside], atol=1e-3)
    masks = images[:, 0]
    nearest = reference.resized_crop(
        masks[:, None], 8, 8, 16, 4, [32, 16], v2.InterpolationMode.NEAREST
    )
    assert torch.equal(augment_masks(masks, plan), nearest[:, 0])


@given(moves, st.tuples(*[st.floats(0, 1)] * 2), st.tuples(*[st.floats(0.3, 1)] * 2))
def test_a_window_is_cut_out_of_the_moved_crop(move, place, sides):
    """Of a ramp, which no resampling blurs, so that two resamplings give the pixels of one."""
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(40), indexing="ij")
    ramp = torch.stack([8 * rows, 6 * columns, torch.full_like(rows, 255)])[None].byte()
    (top, left), (tall, wide) = [p * (1 - s) for p, s in zip(place, sides, strict=True)], sides
    plan = planned(move, 24, 40)
    cut = augment(
        ramp, AugmentPlan(plan | {"crop": torch.tensor([[top, left, tall, wide]])}), fill=0
    )
    window = torch.tensor([[[wide, 0, 2 * left + wide - 1], [0, tall, 2 * top + tall - 1]]])
    grid = functional.affine_grid(window, [1, 3, 24, 40], align_corners=False)
    expected = functional.grid_sample(augment(ramp, plan, fill=0), grid, align_corners=False)
    inside = (torch.minimum(cut, expected)[:, 2:] > 254.99).expand(-1, 3, -1, -1)
    assert torch.allclose(cut[inside], expected[inside], atol=0.05)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4])
def test_saturation_gives_torchvision_s_pixels(factor):
    images = crops(1)
    result = augment(images, still(1, saturation=torch.tensor([factor])), fill=0)
    expected = reference.adjust_saturation(images.float() / 255, factor) * 255
    assert torch.allclose(result, expected, atol=1e-3)


@given(st.floats(-0.5, 0.5))
def test_hue_gives_torchvision_s_pixels(turn):
    images = crops(1)
    images[0, :, 0] = torch.tensor([90, 0, 255]).repeat_interleave(8)[:16]  # greys have no hue
    result = augment(images, still(1, hue=torch.tensor([turn])), fill=0)
    expected = reference.adjust_hue(images.float() / 255, turn) * 255
    assert torch.allclose(result, expected, atol=0.01)


@pytest.mark.parametrize("factor", [0.0, 0.7, 1.3])
def test_contrast_gives_torchvision_s_pixels(factor):
    images = crops(2)
    result = augment(images, still(2, contrast=torch.tensor([factor, 1.0])), fill=0)
    expected = reference.adjust_contrast(images[:1].float() / 255, factor) * 255
    assert torch.allclose(result[:1], expected, atol=1e-3)
    assert torch.equal(result[1], images[1].float())


def test_colours_one_after_the_other_give_torchvision_s_pixels():
    images = crops(1)
    factors = {"contrast": 1.6, "brightness": 1.3, "saturation": 1.9, "hue": 0.2}
    plan = still(1, **{name: torch.tensor([value]) for name, value in factors.items()})
    expected = images.float() / 255
    for name, value in factors.items():
        expected = getattr(reference, f"adjust_{name}")(expected, value)
    assert torch.allclose(augment(images, plan, fill=0), expected * 255, atol=0.01)


def test_erasing_fills_a_rectangle_and_leaves_the_rest():
    images = crops(1, 20, 10)
    result = augment(images, still(1, erasing=torch.tensor([[0.5, 0.2, 0.25, 0.4]])), fill=3)
    assert (result[0, :, 10:15, 2:6] == 3).all()
    result[0, :, 10:15, 2:6] = images[0, :, 10:15, 2:6].float()
    assert torch.equal(result, images.float())


def test_a_share_of_a_batch_is_augmented_as_within_the_whole():
    images = crops(8)
    config = AugmentConfig(
        rotation=10, zoom=0.1, brightness=0.2, erasing=0.5, crop=0.2, saturation=0.5, hue=0.1
    )
    plan = plan_augmentation(config, 8, seed=3, epoch=1, step=5)
    whole = augment(images, plan, fill=9)
    mine = torch.tensor([1, 3, 5, 7])
    assert torch.allclose(augment(images[mine], plan.take(mine), fill=9), whole[mine], atol=1e-4)


def test_another_augmentation_changes_no_draw():
    some = AugmentConfig(rotation=5, shift=0.2, contrast=0.1, erasing=0.5)
    more = some.replace(crop=0.3, saturation=0.4, hue=0.1, elastic=0.02)
    first, second = (plan_augmentation(c, 8, seed=3, epoch=1, step=5) for c in (some, more))
    for name in ("flip", "rotation", "shear", "zoom", "shift", "contrast", "erasing"):
        assert torch.equal(first[name], second[name])
    alone = plan_augmentation(AugmentConfig(erasing=0.5), 8, seed=3, epoch=1, step=5)
    assert torch.equal(alone["erasing"], first["erasing"])
    assert set(alone) == {"flip", "shift", "erasing"}
    # What this seed drew before there were crop, saturation and hue.
    assert first["rotation"][:2].tolist() == pytest.approx([0.04446857, -0.08498056])
    assert first["contrast"][:2].tolist() == pytest.approx([1.03277719, 0.99634528])
    assert first["erasing"][0].tolist() == pytest.approx([0.15839958, 0.53276116, 0, 0.39541057])


def test_windows_lie_in_the_crop_and_keep_the_requested_share():
    plan = plan_augmentation(AugmentConfig(crop=0.4), 500, seed=0, epoch=0, step=0)
    top, left, height, width = plan["crop"].unbind(dim=1)
    for start, side in ((top, height), (left, width)):
        assert 0.6 <= side.min() < 0.62
        assert 0.98 < side.max() <= 1
        assert start.min() >= 0
        assert (start + side).max() <= 1 + 1e-6
        assert start.max() > 0.25
    assert not torch.equal(height, width)


def test_the_next_step_draws_other_parameters():
    config = AugmentConfig(shift=0.3)
    first = plan_augmentation(config, 8, seed=3, epoch=1, step=5)
    assert torch.equal(
        first["shift"], plan_augmentation(config, 8, seed=3, epoch=1, step=5)["shift"]
    )
    assert not torch.equal(
        first["shift"], plan_augmentation(config, 8, seed=3, epoch=1, step=6)["shift"]
    )


def test_the_points_of_a_gpu_are_those_of_affine_grid():
    maps = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    points = affine_points(maps, 7, 4, torch.device("cpu"))
    expected = torch.nn.functional.affine_grid(maps, [5, 3, 7, 4], align_corners=False)
    assert points.shape == expected.shape
    torch.testing.assert_close(points, expected)


def test_pad_crop_moves_whole_pixels_up_to_the_padding_each_way():
    images, config = crops(1).repeat(400, 1, 1, 1), NONE.replace(pad_crop=2)
    plan = plan_augmentation(config, 400, seed=0, epoch=0, step=0)
    result = augment(images, plan, fill=7)
    padded = functional.pad(images.float(), (2, 2, 2, 2), value=7)
    windows = {(y, x): padded[0, :, y : y + 32, x : x + 16] for y in range(5) for x in range(5)}
    found = [
        next(place for place, window in windows.items() if torch.equal(window, crop))
        for crop in result
    ]
    counts = {place: found.count(place) for place in windows}
    assert min(counts.values()) > 4  # of 16 on average


@pytest.mark.parametrize("more", [{}, {"zoom": 0.2}])
def test_pad_crop_adds_to_a_shift(more):
    plan = plan_augmentation(
        NONE.replace(shift=0.2, pad_crop=3, **more), 8, seed=0, epoch=0, step=0
    )
    images, side = crops(8), torch.tensor([16, 32])
    together = {name: values for name, values in plan.items() if name != "pad_crop"}
    together["shift"] = plan["shift"] + plan["pad_crop"] / side
    expected = augment(images, AugmentPlan(together), fill=5)
    assert torch.allclose(augment(images, plan, fill=5), expected, atol=1e-3)
    assert torch.equal(
        augment_masks(images[:, 0], plan), augment_masks(images[:, 0], AugmentPlan(together))
    )


def test_grayscale_gives_torchvision_s_pixels_in_the_drawn_share_of_crops():
    images = crops(200)
    plan = plan_augmentation(NONE.replace(grayscale=0.3), 200, seed=0, epoch=0, step=0)
    result = augment(images, plan, fill=0)
    gray = reference.rgb_to_grayscale(images.float(), num_output_channels=3)
    chosen = plan["grayscale"]
    assert 0.2 < chosen.float().mean() < 0.4
    assert torch.allclose(result[chosen], gray[chosen], atol=1e-3)
    assert torch.equal(result[~chosen], images[~chosen].float())


def test_local_grayscale_turns_a_rectangle_grey_and_leaves_the_rest():
    images = crops(1, 20, 10)
    plan = AugmentPlan({"local_grayscale": torch.tensor([[0.5, 0.2, 0.25, 0.4]])})
    result = augment(images, plan, fill=0)
    gray = reference.rgb_to_grayscale(images.float(), num_output_channels=3)
    inside = (0, slice(None), slice(10, 15), slice(2, 6))
    assert torch.allclose(result[inside], gray[inside], atol=1e-3)
    result[inside] = images[inside].float()
    assert torch.equal(result, images.float())


def test_drawn_rectangles_turn_grey_with_the_requested_probability_and_area():
    plan = plan_augmentation(NONE.replace(local_grayscale=0.4), 1000, seed=0, epoch=0, step=0)
    top, left, height, width = plan["local_grayscale"].unbind(dim=1)
    chosen = height > 0
    assert 0.35 < chosen.float().mean() < 0.45
    areas = (height * width)[chosen]
    assert 0.02 <= areas.min() < 0.05
    assert 0.35 < areas.max() <= 0.4 + 1e-6
    assert (top + height).max() <= 1 + 1e-6
    assert (left + width).max() <= 1 + 1e-6


def test_what_is_off_is_not_saved_and_changes_no_draw():
    saved = AugmentConfig().to_settings()
    assert not {"pad_crop", "grayscale", "local_grayscale", "random_patch"} & set(saved)
    assert not {"rand_augment", "auto_augment"} & set(saved)
    more = {"pad_crop": 3, "grayscale": 0.5, "local_grayscale": 0.5, "random_patch": 0.5}
    some = AugmentConfig(rotation=5, erasing=0.5)
    for config in (some.replace(**more), some.replace(rand_augment={"operations": 2})):
        first, second = (plan_augmentation(c, 8, seed=3, epoch=1, step=5) for c in (some, config))
        assert all(torch.equal(values, second[name]) for name, values in first.items())
