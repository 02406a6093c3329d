"""ArcFace, CosFace and the circle loss over a classifier give what the papers' formulas give."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.config import LossConfig
from reidray.errors import UserError
from reidray.losses import LOSSES, LossSizes, Targets, build_losses
from reidray.models import Outputs

PEOPLE, SIZE = 5, 7


def arcface_by_hand(cosine, is_right, margin):
    angle = math.acos(min(1, max(-1, cosine)))
    if not is_right:
        return cosine
    if angle + margin < math.pi:
        return math.cos(angle + margin)
    return cosine - margin * math.sin(margin)


def cosface_by_hand(cosine, is_right, margin):
    return cosine - margin if is_right else cosine


def circle_by_hand(cosine, is_right, margin):
    if is_right:
        return max(0, 1 + margin - cosine) * (cosine - (1 - margin))
    return max(0, cosine + margin) * (cosine - margin)


BY_HAND = {
    "arcface": (arcface_by_hand, {"margin": 0.5, "scale": 64.0}),
    "cosface": (cosface_by_hand, {"margin": 0.35, "scale": 64.0}),
    "circle_softmax": (circle_by_hand, {"margin": 0.25, "scale": 128.0}),
}


def build(name, **options):
    torch.manual_seed(0)
    config = LossConfig(**{name: {"weight": 1.0, **options}})
    return build_losses({name: config.parts[name]}, LossSizes(PEOPLE, SIZE))[name]


def outputs_of(embedding):
    return Outputs(embedding, embedding.detach() + 1, embedding.new_empty(len(embedding), 0), ())


def targets_of(people):
    return Targets(torch.as_tensor(people), torch.empty(len(people), 0, dtype=torch.int64))


def loss_by_hand(name, embedding, directions, people, margin, scale, smoothing):
    """Sum over people and images, in float64, with the plain formula of the softmax."""
    change = BY_HAND[name][0]
    terms = []
    for vector, person in zip(embedding, people, strict=True):
        logits = []
        for index, direction in enumerate(directions):
            cosine = vector @ direction / np.linalg.norm(vector) / np.linalg.norm(direction)
            logits.append(scale * change(cosine, index == person, margin))
        log_total = math.log(sum(math.exp(value - max(logits)) for value in logits)) + max(logits)
        shares = [smoothing / len(logits)] * len(logits)
        shares[person] += 1 - smoothing
        terms.append(sum(s * (log_total - value) for s, value in zip(shares, logits, strict=True)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("name", BY_HAND)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1.0, 30.0]), smooth=st.booleans())
def test_a_classifier_with_a_margin_gives_the_formula_of_its_paper(name, seed, scale, smooth):
    random = np.random.default_rng(seed)
    embedding, directions = random.normal(size=(6, SIZE)), random.normal(size=(PEOPLE, SIZE))
    embedding[0], embedding[1] = directions[2], -directions[3]  # angles of 0 and 180 degrees
    people = [2, 3, 0, 1, 4, 4]
    margin, smoothing = BY_HAND[name][1]["margin"], 0.1 * smooth
    loss = build(name, scale=scale, smoothing=smoothing)
    with torch.no_grad():
        loss.weight.copy_(torch.from_numpy(directions))
    value = loss(outputs_of(torch.from_numpy(embedding).float()), targets_of(people))
    expected = loss_by_hand(name, embedding, directions, people, margin, scale, smoothing)
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_defaults_are_those_of_the_paper(name):
    options = LossConfig().parts[name]
    expected = {"weight": 0.0, "smoothing": 0.0, **BY_HAND[name][1]}
    assert vars(options) == expected


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_and_reach_directions_and_embedding(name, dtype):
    loss = build(name)
    embedding = torch.randn(6, SIZE)
    embedding[0], embedding[1], embedding[2] = loss.weight.detach()[0], embedding[3], 0
    embedding[4] = -loss.weight.detach()[1]
    embedding = embedding.to(dtype).requires_grad_()
    value = loss(outputs_of(embedding), targets_of([0, 3, 2, 3, 1, 1]))
    value.backward()
    assert value.dtype == torch.float32
    for gradient in (embedding.grad, loss.weight.grad):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", BY_HAND)
def test_a_smaller_angle_to_the_right_person_gives_a_smaller_loss(name):
    loss = build(name, scale=4.0)
    with torch.no_grad():
        loss.weight.copy_(torch.eye(PEOPLE, SIZE))
    angles = torch.linspace(0, math.pi, 40)
    values = []
    for angle in angles:
        embedding = torch.zeros(1, SIZE)
        embedding[0, 0], embedding[0, SIZE - 1] = angle.cos(), angle.sin()
        values.append(float(loss(outputs_of(embedding), targets_of([0])).detach()))
    assert (np.diff(values) > 0).all()


def test_a_network_without_a_known_embedding_size_is_refused_in_one_line():
    parts = {"arcface": LossConfig(arcface={"weight": 1.0}).parts["arcface"]}
    with pytest.raises(UserError, match="states no `embedding_size`"):
        build_losses(parts, LossSizes(PEOPLE, 0))


def test_every_loss_of_people_names_its_paper():
    for name in (*BY_HAND, "triplet", "circle", "supervised_contrastive", "center"):
        described = (LOSSES.get(name).__doc__, LossConfig().parts[name].__doc__)
        assert any(" 20" in text for text in described), name
