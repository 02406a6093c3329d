from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reidray.cli.arguments import parse_arguments
from reidray.config import TrainMultitaskConfig, TrainReidConfig
from reidray.config.loading import recipe_files, space_files
from reidray.config.tuning import TuneConfig
from reidray.errors import UserError
from reidray.tuning.search_space import SearchParameter, load_space, with_values
from reidray.tuning.tuner import (
    build_scheduler,
    check_search,
    clip_to_space,
    max_epochs,
    to_domains,
)

BASE = TrainReidConfig(data="-")
KINDS = {"reid": TrainReidConfig, "multitask": TrainMultitaskConfig}


@pytest.fixture
def space(tmp_path):
    """Return a function that loads a space of some lines."""

    def read(**lines):
        file = tmp_path / "space.yaml"
        file.write_text(yaml.safe_dump({key.replace("__", "."): v for key, v in lines.items()}))
        return load_space((str(file),), "reid", BASE)

    return read


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task in KINDS for name in space_files(task)]
)
def test_built_in_spaces_vary_recipes(task, name):
    recipe = next(iter(recipe_files(task)))
    arguments = ["--data", "-", "--recipe", recipe]
    base = parse_arguments(KINDS[task], arguments).config
    assert load_space((name,), task, base)


@pytest.mark.parametrize("task", KINDS)
def test_built_in_spaces_combine(task):
    recipe = next(iter(recipe_files(task)))
    base = parse_arguments(KINDS[task], ["--data", "-", "--recipe", recipe]).config
    around_one_recipe = ("reid_nano", "vgg_triplet")
    names = tuple(name for name in space_files(task) if name not in around_one_recipe)
    together = load_space(names, task, base)
    assert len(together) == sum(len(load_space((name,), task, base)) for name in names)


def test_a_space_holds_the_parameters_of_its_file(space):
    found = space(
        batch__people={"choice": [8, 16]},
        epochs={"randint": [3, 9]},
        optimizer__learning_rate={"loguniform": [1e-4, 1e-2]},
        optimizer__milestones={"choice": [[0.5], [0.3, 0.6]]},
    )
    assert {parameter.key: parameter.values for parameter in found} == {
        "batch.people": (8, 16),
        "epochs": (3, 9),
        "optimizer.learning_rate": (1e-4, 1e-2),
        "optimizer.milestones": ((0.5,), (0.3, 0.6)),
    }
    assert max_epochs(found, BASE) == 9
    assert max_epochs(found[:1], BASE) == BASE.epochs


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ({"batch__peple": {"choice": [8]}}, "'batch.peple' does not exist: did you mean 'batch.p"),
        ({"lerning_rate": {"choice": [8]}}, "'lerning_rate' does not exist: did you mean 'optimiz"),
        ({"batch__people": {"choice": [8, 1]}}, "people` must be 2 or more"),
        ({"batch__people": {"choice": [8, 9.5]}}, "batch.people: 9.5 is no valid value"),
        ({"batch__people": {"uniform": [8, 16]}}, "batch.people: 8.0 is no valid value"),
        ({"batch__spread_cameras": {"choice": [1]}}, "1 is no valid value"),
        ({"loss__mining": {"choice": ["hardest"]}}, "'hardest' is no valid value"),
        ({"augment__flip": {"uniform": [0, 2]}}, "augment.flip` must lie in 0..1"),
        (
            {"augment__flip": {"unifrom": [0, 1]}},
            "'unifrom' is no distribution: did you mean 'un",
        ),
        ({"augment__flip": {"uniform": [1, 0]}}, "two numbers, the lower one first"),
        ({"augment__flip": {"choice": []}}, "needs a list of values"),
        ({"augment__flip": [0, 1]}, "expected one of choice, uniform, loguniform and randint"),
        ({"optimizer__learning_rate": {"loguniform": [0, 1]}}, "numbers above 0"),
        ({"epochs": {"randint": [1, 2.5]}}, "whole numbers"),
        ({"val_fraction": {"uniform": [0.1, 0.4]}}, "cannot vary: .* the same images"),
        (
            {"network__height": {"choice": [64, 128]}},
            "cannot vary: they vary together, as in `input_size",
        ),
        ({"input_size": {"choice": ["128x64", "128"]}}, "'128' is no height and width in pixels"),
        ({"input_size": {"choice": ["0x64"]}}, "input_size: .*height"),
        ({"input_size": {"choice": [128]}}, "'128' is no height and width in pixels, such as"),
        ({"input_size": {"choice": ["100000x100000"]}}, "input_size: .*height"),
        ({"input_size": {"uniform": [1, 2]}}, "'1.0' is no height and width in pixels"),
        ({"num_workers": {"choice": [1, 2]}}, "cannot vary: it selects where"),
        ({"no_images": {"choice": [False, True]}}, "cannot vary: it selects what the report"),
    ],
)
def test_an_invalid_space_is_refused_in_one_line(space, lines, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        space(**lines)
    assert "\n" not in str(caught.value)


def test_empty_missing_and_overlapping_spaces_are_refused(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(UserError, match="holds no keys"):
        load_space((str(tmp_path / "empty.yaml"),), "reid", BASE)
    with pytest.raises(UserError, match="did you mean 'batch'"):
        load_space(("bach",), "reid", BASE)
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(UserError, match="is not YAML"):
        load_space((str(tmp_path / "broken.yaml"),), "reid", BASE)
    (tmp_path / "same.yaml").write_text("batch.people: {choice: [8]}")
    with pytest.raises(UserError, match="varies in another space too"):
        load_space(("batch", str(tmp_path / "same.yaml")), "reid", BASE)


@given(st.integers(0, 50), st.integers(1, 50))
def test_drawn_values_lie_in_the_space(low, span):
    space = (
        SearchParameter("epochs", "randint", (low, low + span)),
        SearchParameter("batch.people", "choice", (4, 8)),
        SearchParameter("optimizer.learning_rate", "loguniform", (1e-4, 1e-2)),
    )
    drawn = {key: domain.sample(size=40) for key, domain in to_domains(space).items()}
    assert set(drawn["epochs"]) <= set(range(low, low + span + 1))
    assert set(drawn["batch.people"]) <= {4, 8}
    assert all(1e-4 <= rate <= 1e-2 for rate in drawn["optimizer.learning_rate"])


def test_randint_draws_both_ends():
    (domain,) = to_domains((SearchParameter("epochs", "randint", (2, 4)),)).values()
    assert set(domain.sample(size=200)) == {2, 3, 4}


def test_with_values_changes_the_given_keys_only():
    values = {"epochs": 3, "batch.people": 6, "batch.crops": 2, "augment.flip": 0.1}
    config = with_values(BASE, values)
    assert (config.epochs, config.batch.people, config.batch.crops) == (3, 6, 2)
    assert config.augment.flip == 0.1
    assert config.augment.shift == BASE.augment.shift
    assert config.loss == BASE.loss
    with pytest.raises(ValueError, match=r"needs `batch\.crops` of 2 or more"):
        with_values(BASE, {"batch.crops": 1})


def test_a_population_varies_mutable_sections_only():
    config = TuneConfig(data="-", output="-", recipe="demo", space=("x",), search="pbt")
    flips = (SearchParameter("augment.flip", "choice", (0.0, 0.5)),)
    people = (SearchParameter("batch.people", "choice", (4, 8)),)
    check_search(config, flips, 1)
    with pytest.raises(UserError, match=r"'batch\.people' cannot change during training"):
        check_search(config, flips + people, 1)
    with pytest.raises(UserError, match="the base has num_workers 2: set it to 1"):
        check_search(config, flips, 2)
    with pytest.raises(UserError, match="leave out `concurrent`"):
        check_search(replace(config, concurrent=1), flips, 1)
    check_search(replace(config, search="tpe", concurrent=1), people, 2)


@pytest.mark.parametrize("first_rung", [1, 2, 40])
@pytest.mark.parametrize("search", ["random", "pbt"])
def test_trials_may_be_shorter_than_the_first_rung(first_rung, search):
    config = TuneConfig(data="-", output="-", recipe="demo", space=("x",), first_rung=first_rung)
    rates = (SearchParameter("optimizer.learning_rate", "loguniform", (1e-4, 1e-2)),)
    assert build_scheduler(replace(config, search=search), rates, replace(BASE, epochs=1))


@given(st.floats(0, 1), st.integers(0, 50), st.sampled_from([0.8, 1.2]))
def test_clipped_values_lie_in_the_space(erasing, crops, factor):
    space = (
        SearchParameter("augment.erasing", "uniform", (0, 1)),
        SearchParameter("batch.crops", "randint", (0, 50)),
        SearchParameter("loss.mining", "choice", ("hard", "semihard")),
    )
    changed = {"augment.erasing": erasing * factor, "batch.crops": round(crops * factor)}
    kept = clip_to_space(space, {"loss.mining": "hard", **changed})
    assert kept["loss.mining"] == "hard"
    assert kept["augment.erasing"] == min(changed["augment.erasing"], 1)
    assert kept["batch.crops"] == min(changed["batch.crops"], 50)
