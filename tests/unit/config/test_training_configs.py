"""Values that a training would fail on late are refused where they are given."""

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.config import (
    BatchConfig,
    LossConfig,
    QuickstartConfig,
    TrainMultitaskConfig,
    TrainReidConfig,
)
from reidray.config.comparison import CompareConfig
from reidray.config.films import RecommendConfig
from reidray.config.tuning import TuneConfig
from reidray.config.value_types import value_types
from reidray.tuning.search_space import with_values

REID = TrainReidConfig(data="-")
PETS = TrainMultitaskConfig(data="-", task="pets")
TUNE = TuneConfig(data="-", output="-", recipe="-", space=("-",))

REFUSED = {
    "epochs": (0, -1, 10**18),
    "max_minutes": (0.0, -1.0, nan, inf, 1e30),
    "seed": (-1, 2**32, 10**30),
    "split_seed": (-1, 2**32),
    "num_workers": (0, -1),
    "sync_batchnorm": ("maybe", True),
    "max_failures": (-1,),
    "max_bad": (-0.1, 1.1, nan),
    "val_fraction": (0.0, 1.0, -1.0, nan),
    "network.height": (0, 15, 10**6),
    "network.width": (0, 15, 10**6),
    "network.feature_size": (0, -1, 10**9),
    "network.embedding_size": (0, -1, 10**9),
    "network.dropout": (-0.1, 1.0, nan),
    "augment.rotation": (-1.0, 90.0, nan, inf),
    "augment.hue": (-0.1, 0.6, nan),
    "optimizer.learning_rate": (0.0, -1e-3, nan, inf, 1e30),
    "optimizer.weight_decay": (-1.0, nan, inf, 1e30),
    "optimizer.momentum": (-0.1, 1.0, nan),
    "optimizer.warmup": (-0.1, 1.0, nan),
    "optimizer.max_grad_norm": (0.0, -1.0, nan, inf),
    "optimizer.milestones": ((0.0,), (1.5,), (nan,)),
    "validation.every": (0, -1),
    "validation.patience": (-1,),
}
OF_PEOPLE = {
    "validation.num_queries": (0, -1),
    "validation.top_k": (0, -1),
    "batch.people": (0, 1, 10**9),
    "batch.crops": (0, -1, 10**9),
    "loss.identity": (-1.0, nan, inf, 1e30),
    "loss.triplet": (-1.0, nan, inf, 1e30),
    "loss.attributes": (-1.0, nan, inf, 1e30),
    "loss.smoothing": (-0.1, 1.0, nan),
    "loss.margin": (-1.0, nan, inf),
    "loss.arcface.weight": (-1.0, nan, inf, 1e30),
    "loss.arcface.margin": (-0.1, 1.6, nan),
    "loss.cosface.scale": (0.0, nan, inf),
    "loss.circle.margin": (-0.1, 1.1, nan),
    "loss.supervised_contrastive.temperature": (0.0, -1.0, nan, inf),
    "loss.center.rate": (-0.1, 1.1, nan),
}
OF_PETS = {
    "batch_size": (0, 1, -4),
    "loss.labels": (-1.0, nan, inf, 1e30),
    "loss.masks": (-1.0, nan, inf, 1e30),
}
OF_SWEEPS = {
    "num_samples": (0, -1, 10**9),
    "budget_minutes": (0.0, -1.0, nan, inf),
    "first_rung": (0,),
    "concurrent": (0, -1),
    "cpus_per_trial": (0, -1),
    "seed": (-1, 2**32),
}
CASES = [
    (base, key, value)
    for base, table in ((REID, REFUSED | OF_PEOPLE), (PETS, REFUSED | OF_PETS), (TUNE, OF_SWEEPS))
    for key, values in table.items()
    for value in values
]


@pytest.mark.parametrize(("base", "key", "value"), CASES)
def test_a_value_that_would_fail_late_is_refused_by_its_name(base, key, value):
    shown = key.rpartition(".")[2]
    with pytest.raises(ValueError, match=shown.replace("_", "[-_]")):
        with_values(base, {key: value})


def test_losses_that_compare_images_need_several_of_a_person():
    one = {"data": "-", "batch": BatchConfig(people=4, crops=1)}
    centres = {"arcface": {"weight": 1.0}, "center": {"weight": 0.1}}
    assert TrainReidConfig(loss=LossConfig(triplet=0.0, **centres), **one).batch.crops == 1
    compared = LossConfig(circle={"weight": 1.0}, supervised_contrastive={"weight": 1.0})
    names = "losses triplet, circle, supervised_contrastive need `batch.crops` of 2 or more"
    with pytest.raises(ValueError, match=names):
        TrainReidConfig(loss=compared, **one)


def numbers(config):
    """Yield all keys of a configuration that hold a number, with their types."""
    for key, kind in value_types(type(config)).items():
        if kind in (int, float) or set(getattr(kind, "__args__", ())) & {int, float}:
            yield key, kind


@pytest.mark.parametrize("base", [REID, PETS, TUNE])
@given(draw=st.data())
def test_no_number_of_a_configuration_may_be_infinite_or_no_number(base, draw):
    floats = [key for key, kind in numbers(base) if "float" in str(kind)]
    key = draw.draw(st.sampled_from(floats))
    value = draw.draw(st.sampled_from([nan, inf, -inf]))
    with pytest.raises(ValueError, match="must"):
        with_values(base, {key: (value,) if "tuple" in str(dict(numbers(base))[key]) else value})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused_by_every_job(seed):
    with pytest.raises(ValueError, match="`seed` must lie in"):
        QuickstartConfig(seed=seed)
    with pytest.raises(ValueError, match="`seed` must lie in"):
        CompareConfig(data="-", output="-", seed=seed)
    with pytest.raises(ValueError, match="`seed` must lie in"):
        RecommendConfig(ratings="-", movies="-", seed=seed)


@pytest.mark.parametrize(
    "configure",
    [
        lambda **settings: replace(REID, **settings),
        lambda **settings: replace(PETS, **settings),
        lambda **settings: CompareConfig(data="-", output="-", **settings),
    ],
)
def test_a_seed_of_a_split_that_draws_nothing_is_refused(configure):
    assert configure(split_order="files").split_order == "files"
    message = "`split_seed=3` draws a random order and `split_order=files` draws none: leave one"
    with pytest.raises(ValueError, match=message):
        configure(split_order="files", split_seed=3)


def test_a_number_of_components_must_be_finite():
    with pytest.raises(ValueError, match="share under 1 or a whole number"):
        CompareConfig(data="-", output="-", pca=(inf,))


def test_the_largest_values_that_are_reasonable_pass():
    assert replace(REID, seed=2**32 - 1, epochs=10_000, max_minutes=43_200.0).seed == 2**32 - 1
