"""Training on several data sets: their people, their batches and the validation of each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.labels import make_labels
from support.synthetic_people import CONFIG
from support.training_folders import reid_experiment, save_image, write_person_folders

from reidray.cli.arguments import parse_arguments
from reidray.config import TrainMultitaskConfig, TrainReidConfig
from reidray.config.loading import load_config
from reidray.config.sections.open_section import config_to_dict
from reidray.config.tuning import TuneConfig
from reidray.data.images.crops import CropGroup, CropTable
from reidray.errors import UserError
from reidray.reporting.run_summary import group_rows
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.reid.definition import REID
from reidray.training.tasks.reid.task import ReidTask
from reidray.training.tasks.reid.validation import evaluate_datasets, evaluate_embeddings
from reidray.training.train import check_training_inputs
from reidray.tuning.sweep import prepare_sweep

SMALL = ("--network.height", "32", "--network.width", "16", "--network.backbone", "resnet_tiny")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two sets: twelve people, and eight whose cameras are unknown."""
    root = tmp_path_factory.mktemp("sets")
    return (
        str(write_person_folders(root / "north", 12)),
        str(write_person_folders(root / "south", 8, cameras=0)),
    )


def experiment_of(sets, *flags):
    return reid_experiment(Path(sets[0]), *SMALL, "--data", *sets, *flags)


def join_labels(*parts):
    """Return labels of several sets as one, with the people of each numbered apart."""
    labels = make_labels(
        np.concatenate([100 * number + part.person_ids for number, part in enumerate(parts)]),
        np.concatenate([part.camera_ids for part in parts]),
        np.concatenate([part.attribute_labels for part in parts]),
        parts[0].schema,
    )
    sizes = [len(part) for part in parts]
    names = tuple(f"set{number}" for number in range(len(parts)))
    return replace(labels, datasets=names, dataset_indices=np.repeat(np.arange(len(parts)), sizes))


def test_an_experiment_on_two_sets_holds_both_and_validates_on_people_of_each(sets):
    experiment = experiment_of(sets)
    manifest, validation = experiment.manifest, experiment.labels["val"]
    assert experiment.architecture.num_people == experiment.labels["train"].num_people
    assert {path.partition("/")[0] for path in manifest.table["path"].to_pylist()} == {
        *("north", "south")
    }
    people = {name: part.num_people for name, part in validation.by_dataset().items()}
    alone = [reid_experiment(Path(each), *SMALL).labels["val"] for each in sets]
    assert people == {"north": alone[0].num_people, "south": alone[1].num_people}
    assert manifest.person_ids["south/1"] == manifest.person_ids["north/12"] + 1
    assert experiment.image_files().decode(np.array([0, 79])).kept == (0, 1)


def test_the_configuration_of_a_run_on_two_sets_repeats_it(sets, tmp_path):
    experiment = experiment_of(sets, "--layout", "folders", "auto")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config_to_dict(experiment.config)))
    again = load_config(TrainReidConfig, files=[file]).config
    assert again == experiment.config
    assert again.data == sets
    assert again.layout == ("folders", "auto")


def test_a_list_of_one_set_is_the_set_itself(sets, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(f"data: [{sets[0]}]\nlayout: [folders]\n")
    assert load_config(TrainReidConfig, files=[file]).config.data == sets[0]
    assert TrainReidConfig(data=(sets[0],)) == TrainReidConfig(data=sets[0])
    parsed = parse_arguments(TrainReidConfig, ["--data", sets[0]]).config
    assert config_to_dict(parsed)["data"] == sets[0]


def test_workers_share_the_people_of_the_same_balanced_batches():
    train = join_labels(*(make_labels(np.repeat(np.arange(1, people + 1), 4)) for people in (4, 9)))
    crops = CropTable([CropGroup(train.indices, np.zeros((len(train), 32, 16, 3), np.uint8))])
    batch = CONFIG.batch.replace(people=8, crops=2, dataset_shares="equal")
    config = CONFIG.replace(batch=batch)

    def people_of_batches(rank, world_size):
        context = DistributedContext(rank=rank, world_size=world_size)
        task = ReidTask(config, {"train": train, "val": train}, crops, context)
        return [batch.person_indices.reshape(-1, 2)[:, 0].numpy() for batch in task.batches(3)]

    whole = people_of_batches(0, 1)
    assert len(whole) == 5
    for people, *shares in zip(
        whole, *(people_of_batches(rank, 2) for rank in (0, 1)), strict=True
    ):
        assert np.bincount(people >= 4).tolist() == [4, 4]
        assert [share.tolist() for share in shares] == [
            people[0::2].tolist(),
            people[1::2].tolist(),
        ]
        assert np.bincount(shares[0] >= 4).tolist() == [2, 2]


def test_metrics_are_those_of_each_set_and_their_mean():
    random = np.random.default_rng(0)
    parts = [
        make_labels(np.repeat(np.arange(1, people + 1), 4), np.tile([1, 1, 2, 2], people))
        for people in (5, 20)
    ]
    labels = join_labels(*parts)
    embeddings = torch.from_numpy(random.normal(size=(len(labels), 8)).astype(np.float32))
    none = np.zeros((len(labels), 0), np.int64)
    options = {"majority": np.zeros(0, np.int64), "metric": "cosine"}
    found = evaluate_datasets(embeddings, none, labels, **options)
    alone = [
        evaluate_embeddings(embeddings[mask], none[mask], part, **options)
        for part, mask in zip(parts, labels.dataset_masks.values(), strict=True)
    ]
    for name in ("mean_ap", "rank1", "mean_inp"):
        values = [each[name] for each in alone]
        assert [each[name] for each in found["datasets"].values()] == pytest.approx(values)
        assert found[name] == pytest.approx(np.mean(values))
    assert alone[0]["mean_ap"] > alone[1]["mean_ap"] + 0.05
    assert evaluate_datasets(embeddings[:20], none[:20], parts[0], **options) == alone[0]


def test_the_groups_of_people_are_compared_with_their_own_set():
    metrics = {
        "mean_ap": 0.5,
        "datasets": {"a": {"mean_ap": 0.8}, "b": {"mean_ap": 0.2}},
        "groups": [{"group": "gender male", "dataset": "b", "mean_ap": 0.3}],
    }
    (row,) = group_rows(metrics)
    assert row["group"] == "b: gender male"
    assert row["difference"] == pytest.approx(0.1)


def test_a_set_that_cannot_train_or_validate_is_refused_by_its_name(sets, tmp_path):
    for image in range(4):
        save_image(tmp_path / "one" / "query" / "anna" / f"{image}.png", image)
        save_image(tmp_path / "one" / "gallery" / "anna" / f"{image}.png", image)
    with pytest.raises(UserError, match="one: layout folders names nobody in its 0 training"):
        experiment_of((sets[0], str(tmp_path / "one")))
    for person in range(6):
        save_image(tmp_path / "single" / f"p{person}x" / "1.png", person)
    with pytest.raises(UserError, match="single: validation looks for another image"):
        experiment_of((sets[0], str(tmp_path / "single")))


def test_equal_shares_fit_the_batch_to_the_smallest_set(sets):
    experiment = experiment_of(sets, "--batch.dataset-shares", "equal")
    smallest = min(part.num_people for part in experiment.labels["train"].by_dataset().values())
    assert experiment.config.batch.people == 2 * smallest
    assert REID.largest_batch(experiment.config, experiment.labels) == 2 * smallest * 4
    with pytest.raises(UserError, match=r"south: has \d training people.* --batch.people"):
        experiment_of(sets, "--batch.dataset-shares", "equal", "--batch.people", "14")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layout", "auto", "auto", "auto"], "--layout has 3 values and --data 2"),
        (["--root", "/r"], "--root goes with one manifest and --data names 2 sets"),
    ],
)
def test_layouts_and_roots_that_do_not_fit_several_sets_are_refused(sets, flags, message):
    with pytest.raises(UserError, match=message):
        parse_arguments(TrainReidConfig, ["--data", *sets, *flags])


def test_sets_are_checked_before_pytorch_loads(sets):
    with pytest.raises(UserError, match="names one place twice"):
        check_training_inputs(TrainReidConfig(data=(sets[0], sets[0])))
    with pytest.raises(UserError, match="no such folder"):
        check_training_inputs(TrainReidConfig(data=(sets[0], f"{sets[1]}x")))
    with pytest.raises(UserError, match="is not of the layout msmt17"):
        check_training_inputs(TrainReidConfig(data=sets, layout=("auto", "msmt17")))


def test_a_sweep_takes_several_sets_and_a_multitask_training_refuses_them(sets, tmp_path):
    flags = ["--recipe", "reid_small", "--space", "learning_rate", "--output", "x"]
    swept = parse_arguments(TuneConfig, ["--data", *sets, "--layout", "auto", "auto", *flags])
    assert swept.config.data == sets
    assert swept.config.layout == ("auto", "auto")
    sweep = prepare_sweep(replace(swept.config, output=str(tmp_path / "sweep")))
    assert set(sweep.experiment.manifest.datasets) == {"north", "south"}
    with pytest.raises(ValueError, match="`data` names 2 sets, and a multi-task training takes"):
        TrainMultitaskConfig(data=sets, task="attributes")
