"""A configuration from a recipe, files and overrides, without a command line."""

import pickle
from dataclasses import asdict, replace

import pytest

from reidray.config import NetworkConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.comparison import CompareConfig
from reidray.config.films import RecommendConfig
from reidray.config.loading import MissingValueError, load_config
from reidray.config.sources import Source, Sources
from reidray.errors import UserError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("epochs: 7\nbatch: {people: 3, crops: 2}\n")
    return path


def test_overrides_win_over_files_and_files_over_a_recipe(file):
    overrides = {"data": "crops", "batch.people": 5, "network": {"name": "apr"}}
    loaded = load_config(TrainReidConfig, "market_small", overrides, [file])
    config, sources = loaded.config, loaded.sources
    assert (config.epochs, config.batch.people, config.batch.crops) == (7, 5, 2)
    assert config.network.backbone == "resnet_small_patch"
    assert sources.of("batch.people") is sources.of("network.name") is Source.OVERRIDE
    assert sources.of("batch.crops") is sources.of("epochs") is Source.FILE
    assert sources.of("network.backbone") is sources.of("seed") is Source.RECIPE


def test_an_override_is_a_value_or_its_text():
    typed = {"epochs": 9, "max_minutes": 20, "strict": True, "optimizer.milestones": (0.5, 0.8)}
    text = {"epochs": "9", "max_minutes": "2e1", "strict": "true"}
    text["optimizer.milestones"] = "[0.5, 0.8]"
    found = [load_config(TrainReidConfig, None, {"data": "x"} | each) for each in (typed, text)]
    assert found[0] == found[1]
    assert load_config(TrainReidConfig, "demo", {"data": "x", "network.name": None}).config
    compared = {"data": "x", "output": "y", "pca": ["0.9", 64]}
    assert load_config(CompareConfig, overrides=compared).config.pca == (0.9, 64.0)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"epochs": "many"}, "^`epochs` is 'many': expected a whole number$"),
        ({"epochs": True}, "^`epochs` is True: expected a whole number$"),
        ({"epochs": None}, "^`epochs` is empty: expected a whole number$"),
        ({"epochs": 0}, "^`epochs` must lie in 1"),
        ({"optimizer.name": "adamx"}, "^`optimizer.name` is 'adamx': expected adamw, adam, sgd or"),
        ({"optimizer": {"rate": 1}}, "^key 'optimizer.rate' does not exist: did you mean"),
        ({"batch": 3}, "^key 'batch' does not exist"),
        ({"recipe": "demo"}, "^key 'recipe' does not exist"),
    ],
)
def test_a_wrong_override_is_named_in_backticks(overrides, complaint):
    with pytest.raises(UserError, match=complaint):
        load_config(TrainReidConfig, None, {"data": "x"} | overrides)


def test_a_refused_value_of_a_file_is_named_with_the_file(file):
    file.write_text("batch: {people: 1}\n")
    with pytest.raises(UserError, match=r"own.yaml: batch\.people must be 2 or more$"):
        load_config(TrainReidConfig, None, {"data": "x"}, [file])
    assert load_config(TrainReidConfig, None, {"data": "x", "batch.people": 2}, [file]).config


def test_a_plain_yes_or_no_of_yaml_is_the_word_and_no_boolean(file):
    file.write_text("use_gpu: no\nsync_batchnorm: auto\n")
    assert load_config(TrainReidConfig, None, {"data": "x"}, [file]).config.use_gpu == "no"
    file.write_text("sync_batchnorm: yes\n")
    assert load_config(TrainReidConfig, None, {"data": "x"}, [file]).config.sync_batchnorm == "yes"
    file.write_text("precision: yes\n")
    with pytest.raises(UserError, match="is True: expected auto, fp32 or bf16"):
        load_config(TrainReidConfig, None, {"data": "x"}, [file])


@pytest.mark.parametrize(
    ("config", "key"), [(TrainReidConfig, "batch"), (TrainMultitaskConfig, "batch_size")]
)
def test_a_batch_of_auto_in_a_file_is_answered_with_the_key_to_set(file, config, key):
    file.write_text(f"{key}: auto\n")
    with pytest.raises(UserError, match=f"'{key}' is 'auto': .*, or the key auto_batch$"):
        load_config(config, None, {"data": "x", "task": "pets"}, [file])


def test_a_key_with_a_dot_in_a_file_is_refused_with_its_nested_form(file):
    file.write_text("batch.people: 3\n")
    with pytest.raises(UserError, match=r"'batch.people' does not exist: write batch: \{people:"):
        load_config(TrainReidConfig, None, {"data": "x"}, [file])


def test_what_is_missing_is_named():
    with pytest.raises(MissingValueError, match=r"^`ratings` and `movies` are missing$"):
        load_config(RecommendConfig)
    with pytest.raises(MissingValueError, match=r"^`data` is missing$"):
        load_config(TrainMultitaskConfig, "attributes_vgg")


def test_a_recipe_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(UserError, match="recipe 'dmo' does not exist: did you mean 'demo'"):
        load_config(TrainReidConfig, "dmo", {"data": "x"})
    with pytest.raises(UserError, match="recipe 'demo' does not exist: choose one of attributes_"):
        load_config(TrainMultitaskConfig, "demo", {"data": "x"})


def test_a_recipe_in_python_fills_in_what_is_not_given():
    loaded = load_config(TrainReidConfig, "market_small", {"data": "x", "network.height": 96})
    config = TrainReidConfig(
        data="x", recipe="market_small", network=NetworkConfig(height=96), seed=0
    )
    assert config == loaded.config
    sources = Sources(overrides=config.given_keys())
    assert sources.of("network.height") is sources.of("seed") is Source.OVERRIDE
    assert sources.of("network.name") is sources.of("batch.people") is Source.RECIPE


def test_a_default_that_is_given_wins_over_a_recipe():
    default = NetworkConfig().dropout
    config = TrainReidConfig(
        data="x", recipe="market_small", network=NetworkConfig(dropout=default)
    )
    assert config.network.dropout == default
    assert load_config(TrainReidConfig, "market_small", {"data": "x"}).config.network != default


def test_a_configuration_of_a_recipe_can_be_replaced_and_written():
    config = TrainReidConfig(data="x", recipe="demo", epochs=3)
    again = replace(config, network=config.network.replace(dropout=None), epochs=4)
    assert (again.epochs, again.network.dropout) == (4, None)
    assert again.batch == config.batch
    assert "recipe" not in asdict(config)
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"epochs": "3"}, "`epochs` '3': expected a whole number"),
        ({"network": {"name": "apr"}}, r"`network` .*: expected a NetworkConfig"),
        ({"plugins": "my_parts"}, "`plugins` 'my_parts': expected a tuple"),
        ({"max_minutes": "9"}, "`max_minutes` '9': expected a number or None"),
    ],
)
def test_a_value_of_another_type_is_named_in_python(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrainReidConfig(data="x", **values)


def test_replace_keeps_what_the_caller_gave():
    config = TrainReidConfig(data="x", recipe="market_small", network=NetworkConfig(height=96))
    batch = config.batch.replace(crops=2)
    again = config.replace(epochs=4, batch=batch, network=config.network.replace(width=48))
    assert (again.epochs, again.batch.crops, again.network.width) == (4, 2, 48)
    assert again.batch.people == config.batch.people
    given = {"data", "recipe", "epochs", "batch.crops", "network.height", "network.width"}
    assert again.given_keys() == given


def test_a_wrong_recipe_in_python_is_named():
    with pytest.raises(UserError, match="recipe 'dmo' does not exist: did you mean 'demo'"):
        TrainReidConfig(data="x", recipe="dmo")
    with pytest.raises(ValueError, match="epochs"):
        TrainReidConfig(data="x", recipe="demo", epochs=0)
