import pytest
import torch
from torch.nn import functional

from reidray.losses import (
    arcface_logits,
    attribute_loss,
    batch_hard_triplet_loss,
    center_loss,
    circle_loss,
    circle_softmax_logits,
    cosface_logits,
    label_loss,
    mask_loss,
    move_centers,
    semi_hard_triplet_loss,
    supervised_contrastive_loss,
)
from reidray.losses.triplet_loss import mean_hinge_where


def triplet_by_hand(features, people, margin):
    terms = []
    for anchor in range(len(features)):
        gaps = (features[anchor] - features).norm(dim=1)
        same = [i for i in range(len(people)) if people[i] == people[anchor] and i != anchor]
        others = [i for i in range(len(people)) if people[i] != people[anchor]]
        if same and others:
            terms.append(max(0.0, float(gaps[same].max() - gaps[others].min()) + margin))
    return sum(terms) / len(terms)


def test_triplet_takes_the_hardest_positive_and_negative_of_each_anchor():
    torch.manual_seed(0)
    features, people = torch.randn(12, 5), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4])
    loss = batch_hard_triplet_loss(features, people, margin=0.7)
    assert float(loss) == pytest.approx(triplet_by_hand(features, people, 0.7), abs=1e-4)


def semi_hard_by_hand(features, people, margin):
    terms = []
    for anchor in range(len(features)):
        gaps = (features[anchor] - features).norm(dim=1)
        others = gaps[people != people[anchor]]
        for positive in range(len(people)):
            if positive == anchor or people[positive] != people[anchor]:
                continue
            behind = others[others > gaps[positive]]
            negative = behind.min() if len(behind) else others.max()
            terms.append(max(0.0, float(gaps[positive] - negative) + margin))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_semi_hard_triplets_take_the_nearest_negative_behind_each_positive(margin):
    torch.manual_seed(1)
    features, people = torch.randn(12, 2), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4])
    loss = semi_hard_triplet_loss(features, people, margin=margin)
    assert float(loss) == pytest.approx(semi_hard_by_hand(features, people, margin), abs=1e-4)


@pytest.mark.parametrize("people", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_semi_hard_triplets_need_a_positive_and_a_negative(people):
    features = torch.randn(4, 3, requires_grad=True)
    loss = semi_hard_triplet_loss(features, torch.tensor(people), margin=0.3)
    loss.backward()
    assert loss.item() == 0


def test_mask_loss_is_the_mean_over_the_pixels():
    logits = torch.tensor([[[[0.0, 2.0]]]])
    by_hand = (torch.log1p(torch.exp(torch.tensor(2.0))) - 2.0 + torch.log(torch.tensor(2.0))) / 2
    loss = mask_loss(logits, torch.tensor([[[0, 1]]], dtype=torch.uint8))
    assert float(loss) == pytest.approx(float(by_hand), abs=1e-6)


def test_triplet_of_one_person_is_zero_and_can_be_differentiated():
    features = torch.randn(4, 3, requires_grad=True)
    loss = batch_hard_triplet_loss(features, torch.zeros(4, dtype=torch.int64), margin=0.3)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(features.grad).all()


def test_triplet_of_equal_features_has_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.3).backward()
    assert torch.isfinite(features.grad).all()


def test_soft_margin_is_positive_even_for_well_separated_people():
    features = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    people = torch.tensor([0, 0, 1, 1])
    assert float(batch_hard_triplet_loss(features, people, margin=0.3)) == 0
    assert float(batch_hard_triplet_loss(features, people, margin=0)) > 0


def test_unknown_attributes_count_nothing():
    torch.manual_seed(0)
    logits = (torch.randn(4, 2), torch.randn(4, 3))
    codes = torch.tensor([[0, -1], [1, 2], [-1, -1], [1, -1]])
    by_hand = (
        functional.cross_entropy(logits[0][[0, 1, 3]], torch.tensor([0, 1, 1]))
        + functional.cross_entropy(logits[1][[1]], torch.tensor([2]))
    ) / 2
    assert float(attribute_loss(logits, codes, smoothing=0)) == pytest.approx(float(by_hand))


def test_a_batch_with_no_known_attribute_gives_zero():
    codes = torch.full((3, 1), -1)
    assert float(attribute_loss((torch.randn(3, 2),), codes, smoothing=0.1)) == 0


def test_smoothing_keeps_a_certain_network_from_a_loss_of_zero():
    logits = torch.tensor([[50.0, 0.0]])
    people = torch.tensor([0])
    assert float(label_loss(logits, people, smoothing=0)) == pytest.approx(0, abs=1e-6)
    assert float(label_loss(logits, people, smoothing=0.1)) > 1


@pytest.mark.parametrize("margin", [0, 0.3])
def test_the_mean_of_fixed_shape_is_that_of_the_counted_gaps(margin):
    """A GPU averages without a choice of values, and a CPU averages the chosen ones."""
    torch.manual_seed(2)
    gaps, counted = torch.randn(6, 6, requires_grad=True), torch.rand(6, 6) < 0.5
    (gradient,) = torch.autograd.grad(mean_hinge_where(gaps, counted, margin), gaps)
    chosen = gaps[counted]
    terms = functional.softplus(chosen) if margin == 0 else functional.relu(chosen + margin)
    (expected,) = torch.autograd.grad(terms.mean(), gaps)
    assert mean_hinge_where(gaps, counted, margin).item() == pytest.approx(terms.mean().item())
    assert torch.allclose(gradient, expected, atol=1e-7)
    without = torch.where(counted, gaps, torch.inf).requires_grad_()
    assert mean_hinge_where(without, counted, margin).isfinite()
    assert mean_hinge_where(without, torch.zeros_like(counted), margin) == 0


def test_losses_read_no_value_on_the_host():
    """A read would make the host wait for a GPU. The meta device holds no values to read."""
    features = torch.empty(8, 5, device="meta", requires_grad=True)
    people = torch.empty(8, dtype=torch.int64, device="meta")
    masks = torch.empty(8, 1, 4, 4, device="meta", requires_grad=True)
    for loss in (
        batch_hard_triplet_loss(features, people, margin=0.3),
        batch_hard_triplet_loss(features, people, margin=0),
        semi_hard_triplet_loss(features, people, margin=0.3),
        circle_loss(features, people, margin=0.25, scale=128.0),
        supervised_contrastive_loss(features, people, temperature=0.1),
        arcface_logits(features, people, margin=0.5, scale=64.0).mean(),
        cosface_logits(features, people, margin=0.35, scale=64.0).mean(),
        circle_softmax_logits(features, people, margin=0.25, scale=128.0).mean(),
        center_loss(features, move_centers(features.detach(), features, people, rate=0.5)),
        label_loss(features, people, smoothing=0.1),
        attribute_loss((features, features), torch.stack([people, people], dim=1), smoothing=0.1),
        mask_loss(masks, masks[:, 0] > 0),
    ):
        loss.backward()
        assert loss.shape == ()
