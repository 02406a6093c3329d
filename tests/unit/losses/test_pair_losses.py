"""Losses over the pairs of a batch give what the papers' formulas give, and never break."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.config import LossConfig
from reidray.losses import (
    batch_hard_triplet_loss,
    circle_loss,
    semi_hard_triplet_loss,
    supervised_contrastive_loss,
)

LOSSES = {
    "circle": lambda features, people: circle_loss(features, people, margin=0.25, scale=16.0),
    "supervised_contrastive": lambda features, people: supervised_contrastive_loss(
        features, people, temperature=0.1
    ),
    "hard": lambda features, people: batch_hard_triplet_loss(features, people, margin=0.3),
    "soft": lambda features, people: batch_hard_triplet_loss(features, people, margin=0),
    "semihard": lambda features, people: semi_hard_triplet_loss(features, people, margin=0.3),
}
BY_ANGLE = ("circle", "supervised_contrastive")
batches = st.lists(st.integers(0, 3), min_size=1, max_size=10)


def draw_features(people, seed=0):
    random = np.random.default_rng([seed, *people])
    return torch.from_numpy(random.normal(size=(len(people), 4)).astype(np.float32))


def cosine(first, second):
    return float(first @ second / first.norm() / second.norm())


def circle_by_hand(features, people, margin, scale):
    terms = []
    for anchor in range(len(people)):
        positives, negatives = [], []
        for other in range(len(people)):
            similarity = cosine(features[anchor], features[other])
            if other == anchor:
                continue
            if people[other] == people[anchor]:
                weight = max(0, 1 + margin - similarity)
                positives.append(math.exp(-scale * weight * (similarity - (1 - margin))))
            else:
                weight = max(0, similarity + margin)
                negatives.append(math.exp(scale * weight * (similarity - margin)))
        if positives and negatives:
            terms.append(math.log(1 + sum(negatives) * sum(positives)))
    return sum(terms) / len(terms) if terms else 0.0


def contrastive_by_hand(features, people, temperature):
    terms = []
    for anchor in range(len(people)):
        others = [other for other in range(len(people)) if other != anchor]
        positives = [other for other in others if people[other] == people[anchor]]
        if not positives:
            continue
        weights = {
            other: math.exp(cosine(features[anchor], features[other]) / temperature)
            for other in others
        }
        total = sum(weights.values())
        terms.append(-sum(math.log(weights[p] / total) for p in positives) / len(positives))
    return sum(terms) / len(terms) if terms else 0.0


@settings(max_examples=30)
@given(people=batches, seed=st.integers(0, 99))
def test_circle_is_the_formula_of_its_paper(people, seed):
    features = draw_features(people, seed)
    expected = circle_by_hand(features.double(), people, 0.25, 16.0)
    found = circle_loss(features, torch.tensor(people), margin=0.25, scale=16.0)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(max_examples=30)
@given(people=batches, seed=st.integers(0, 99))
def test_supervised_contrastive_is_the_formula_of_its_paper(people, seed):
    features = draw_features(people, seed)
    expected = contrastive_by_hand(features.double(), people, 0.1)
    found = supervised_contrastive_loss(features, torch.tensor(people), temperature=0.1)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def circle_with_weights_of(before, now, scale):
    """Return the loss of four images of two people with the weights of other features."""
    terms = []
    for anchor, mate in ((0, 1), (1, 0), (2, 3), (3, 2)):
        up = max(0, 1.25 - cosine(before[anchor], before[mate]))
        positive = math.exp(-scale * up * (cosine(now[anchor], now[mate]) - 0.75))
        negatives = 0.0
        for other in {0, 1, 2, 3} - {anchor, mate}:
            down = max(0, cosine(before[anchor], before[other]) + 0.25)
            negatives += math.exp(scale * down * (cosine(now[anchor], now[other]) - 0.25))
        terms.append(math.log(1 + positive * negatives))
    return sum(terms) / 4


def test_the_weights_of_the_circle_have_no_gradient():
    features = draw_features([0, 0, 1, 1]).requires_grad_()
    circle_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.25, scale=2.0).backward()
    before, step = features.detach().double(), 1e-4
    for row, column in ((0, 1), (2, 0), (3, 3)):
        ahead, behind = before.clone(), before.clone()
        ahead[row, column] += step
        behind[row, column] -= step
        ends = [circle_with_weights_of(before, now, 2.0) for now in (ahead, behind)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float(features.grad[row, column]) == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=30)
@given(people=batches, order=st.randoms(use_true_random=False))
def test_the_order_of_a_batch_changes_nothing(name, people, order):
    positions = list(range(len(people)))
    order.shuffle(positions)
    features, labels = draw_features(people), torch.tensor(people)
    first = LOSSES[name](features, labels)
    assert float(LOSSES[name](features[positions], labels[positions])) == pytest.approx(
        float(first), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("name", BY_ANGLE)
@settings(max_examples=30)
@given(people=batches, scale=st.floats(1e-3, 1e3))
def test_the_length_of_a_feature_changes_nothing(name, people, scale):
    features, labels = draw_features(people), torch.tensor(people)
    first = float(LOSSES[name](features, labels))
    lengths = torch.linspace(1, scale, len(people))[:, None]
    assert float(LOSSES[name](features * lengths, labels)) == pytest.approx(
        first, rel=1e-3, abs=1e-4
    )


def gradient(name, features, people):
    features = features.clone().requires_grad_()
    value = LOSSES[name](features, torch.tensor(people))
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    return float(value.detach()), features.grad


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("people", [[0, 1, 2, 3], [0], [0, 0, 0, 0]])
def test_a_batch_without_pairs_of_both_kinds_has_a_finite_gradient(name, people):
    value, found = gradient(name, draw_features(people), people)
    assert found.isfinite().all()
    if name != "supervised_contrastive" or len(set(people)) == len(people):
        assert value == 0
        assert not found.any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [0.0, 1.0, 1e4])
def test_identical_features_have_finite_gradients(name, dtype, length):
    features = torch.full((6, 4), length, dtype=dtype)
    _, found = gradient(name, features, [0, 0, 1, 1, 2, 2])
    assert found.isfinite().all()
    features[0] = -features[0]
    _, found = gradient(name, features, [0, 0, 1, 1, 2, 2])
    assert found.isfinite().all()


@pytest.mark.parametrize("name", BY_ANGLE)
def test_a_large_scale_overflows_nothing(name):
    people = [0, 0, 1, 1]
    features, labels = draw_features(people).requires_grad_(), torch.tensor(people)
    if name == "circle":
        value = circle_loss(features, labels, margin=1.0, scale=10_000.0)
    else:
        value = supervised_contrastive_loss(features, labels, temperature=0.01)
    value.backward()
    assert value.isfinite()
    assert features.grad.isfinite().all()


def test_the_defaults_are_those_of_the_papers():
    parts = LossConfig().parts
    assert vars(parts["circle"]) == {"weight": 0.0, "margin": 0.25, "scale": 128.0}
    assert vars(parts["supervised_contrastive"]) == {"weight": 0.0, "temperature": 0.1}
