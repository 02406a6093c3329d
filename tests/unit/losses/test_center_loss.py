"""The centre loss pulls features to centres that follow them by the rule of its paper."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.config import LossConfig
from reidray.losses import LossSizes, Targets, build_losses
from reidray.models import Outputs

PEOPLE, SIZE = 4, 3


def build(**options):
    parts = LossConfig(center={"weight": 1.0, **options}).parts
    return build_losses({"center": parts["center"]}, LossSizes(PEOPLE, SIZE))["center"]


def run(loss, features, people):
    outputs = Outputs(features.detach() + 1, features, features.new_empty(len(features), 0), ())
    labels = torch.empty(len(people), 0, dtype=torch.int64)
    return loss(outputs, Targets(torch.as_tensor(people), labels))


def step_by_hand(centers, features, people, rate):
    """Return the loss of a batch and the centres after it, by the formulas of the paper."""
    value, moved = 0.0, centers.copy()
    for feature, person in zip(features, people, strict=True):
        value += ((feature - centers[person]) ** 2).sum() / 2
    for person in range(len(centers)):
        lack, count = np.zeros(SIZE), 0
        for feature, shown in zip(features, people, strict=True):
            if shown == person:
                lack += centers[person] - feature
                count += 1
        moved[person] = centers[person] - rate * lack / (1 + count)
    return value / len(people), moved


@settings(max_examples=30)
@given(
    batches=st.lists(
        st.lists(st.integers(0, PEOPLE - 1), min_size=1, max_size=8), min_size=1, max_size=3
    ),
    rate=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_centres_and_loss_are_those_of_the_paper(batches, rate):
    loss, centers = build(rate=rate), np.zeros((PEOPLE, SIZE))
    random = np.random.default_rng(0)
    for people in batches:
        features = random.normal(size=(len(people), SIZE))
        expected, centers = step_by_hand(centers, features, people, rate)
        found = run(loss, torch.from_numpy(features).float(), people)
        assert float(found) == pytest.approx(expected, rel=1e-5)
        assert np.allclose(loss.centers.numpy(), centers, atol=1e-5)


def test_features_are_pulled_to_their_centres_and_validation_moves_none():
    loss = build()
    features = torch.randn(4, SIZE, requires_grad=True)
    run(loss, features, [0, 0, 1, 2]).backward()
    assert torch.allclose(features.grad, features.detach() / 4)  # the centres begin at 0
    before = loss.centers.clone()
    assert before.abs().sum(dim=1).tolist()[3] == 0
    run(loss.eval(), features, [0, 0, 1, 2])
    assert torch.equal(loss.centers, before)
    assert not list(loss.parameters())  # the optimiser moves no centre


def test_centres_reach_the_mean_of_a_person_whatever_the_weight_of_the_loss():
    loss = build(weight=0.0005)
    features = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    for _ in range(40):
        run(loss, features, [2, 2])
    assert torch.allclose(loss.centers[2], torch.full((3,), 2.0), atol=1e-4)
    assert not loss.centers[[0, 1, 3]].any()
