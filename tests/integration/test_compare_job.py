import subprocess
import sys
from functools import partial

import pytest
import torch
from support.paths import ROOT
from support.person_crops import draw_crop

from reidray.comparison.comparison_data import read_comparison_data
from reidray.comparison.reid_comparison import compare_reid
from reidray.config.comparison import CompareConfig
from reidray.errors import UserError
from reidray.models import ModelCard, build_architecture, save_model
from reidray.models.factory import build_network

draw = partial(draw_crop, noise=40)


@pytest.fixture(scope="module")
def single_shot(tmp_path_factory):
    """Return ten people with one image each, and eight training people in three cameras."""
    root = tmp_path_factory.mktemp("qut")
    for person in range(1, 9):
        for shot in range(6):
            name = f"{person:04d}_c{1 + shot % 3}s1_{shot:06d}_00.png"
            draw(root / "Training" / name, person, shot)
    for person in range(101, 111):
        draw(root / "Testing" / "Probe" / f"{person:04d}_c1s1_000001_00.png", person, 1)
        draw(root / "Testing" / "Gallery" / f"{person:04d}_c2s1_000002_00.png", person, 2)
    return root


def run_job(*arguments):
    command = [sys.executable, ROOT / "jobs" / "compare.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def compare_config(data, output, **changes):
    return CompareConfig(data=str(data), output=str(output), height=8, width=4, **changes)


class Unreachable:
    def __enter__(self):
        raise AssertionError("Ray was started before everything was checked")

    def __exit__(self, *_):
        pass


def refusal(data, output, **changes):
    with pytest.raises(UserError) as caught:
        compare_reid(compare_config(data, output, **changes), Unreachable())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_validation_people_replace_a_gallery_of_one_image_each(single_shot, tmp_path):
    images = read_comparison_data(compare_config(single_shot, tmp_path / "out"))
    assert images.protocol == "single_shot"
    assert [len(labels.person_ids) for labels in (images.query, images.gallery)] == [10, 10]
    query, gallery = (images.sets[name] for name in images.neighbour_sets)
    assert set(query.person_ids) == set(gallery.person_ids)
    assert not set(query.person_ids) & set(images.train.person_ids)
    cameras = list(zip(query.person_ids, query.camera_ids, strict=True))
    assert len(set(cameras)) == len(cameras)
    assert len(query.person_ids) + len(gallery.person_ids) + len(images.train.person_ids) == 48


def test_without_validation_people_the_baselines_learn_from_all_training_people(
    single_shot, tmp_path
):
    images = read_comparison_data(compare_config(single_shot, tmp_path / "out", val_fraction=0))
    assert len(images.train) == 48
    query, gallery = (images.sets[name] for name in images.neighbour_sets)
    assert {*query.names, *gallery.names} == set(images.train.names)
    assert "people, whom the baselines have seen" in images.neighbours_description
    images = read_comparison_data(compare_config(single_shot, tmp_path / "out"))
    assert "validation people" in images.neighbours_description


def test_a_gallery_of_several_images_classifies_the_queries(tmp_path):
    for person in range(1, 9):
        for shot in range(6):
            name = f"{person:04d}_c{1 + shot % 3}s1_{shot:06d}_00.png"
            draw(tmp_path / "bounding_box_train" / name, person, shot)
            test = f"{person + 100:04d}_c{1 + shot % 3}s1_{shot:06d}_00.png"
            draw(tmp_path / ("bounding_box_test" if shot else "query") / test, person, shot)
    images = read_comparison_data(compare_config(tmp_path, tmp_path / "out"))
    assert images.protocol == "market1501"
    assert (
        read_comparison_data(compare_config(tmp_path, tmp_path / "out", protocol="all")).protocol
        == "all"
    )
    assert [len(labels.person_ids) for labels in images.sets.values()] == [8, 40]
    assert images.neighbour_sets == ("query", "gallery")


def test_a_set_without_query_is_refused(tmp_path):
    for person in (1, 2):
        draw(tmp_path / "data" / "train" / f"{person}" / "a.png", person, 1)
        draw(tmp_path / "data" / "val" / f"{person + 5}" / "a.png", person, 1)
    assert "no query images" in refusal(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_components_than_images_are_refused(single_shot, tmp_path):
    learnt = len(
        read_comparison_data(compare_config(single_shot, tmp_path / "out")).train.person_ids
    )
    message = refusal(single_shot, tmp_path / "out", pca=(0.9, 60))
    assert "`pca=60`" in message
    assert f"{learnt} training images" in message


def test_an_output_that_holds_something_is_refused(single_shot, tmp_path):
    (tmp_path / "table.csv").write_text("years of work")
    assert "table.csv" in refusal(single_shot, tmp_path)
    assert (tmp_path / "table.csv").read_text() == "years of work"


def test_a_folder_without_a_model_is_refused(single_shot, tmp_path):
    message = refusal(single_shot, tmp_path / "out", models=(f"night={single_shot}",))
    assert "has no model.json" in message


def test_a_model_without_embeddings_is_refused(single_shot, tmp_path):
    architecture = build_architecture("pets_scratch_deep", height=32, width=32, num_classes=3)
    torch.manual_seed(0)
    (tmp_path / "pets").mkdir()
    save_model(
        tmp_path / "pets",
        build_network(architecture),
        architecture,
        ModelCard(metric="cosine"),
        "# Pets\n",
    )
    message = refusal(single_shot, tmp_path / "out", models=(f"pets={tmp_path / 'pets'}",))
    assert "gives no embedding" in message
    assert "pets_scratch_deep" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "night=a", "night=b"), "two methods are named 'night'"),
        (("--models", "LDA=a"), "two methods are named 'LDA'"),
        (("--models", "folder"), "expected NAME=DIR"),
        (("--pca", "1.5"), "pca 1.5"),
        (("--height", "128", "--width", "64"), "24,576 values"),
        (("--task", "birds"), "birds"),
    ],
)
def test_the_job_refuses_invalid_flags_in_one_line_with_status_2(arguments, message, tmp_path):
    done = run_job("--data", tmp_path, "--output", tmp_path / "out", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def qut_set(root, cameras):
    """Write ten test people and eight training people with one image in each camera."""
    for person in range(1, 9):
        for camera in cameras:
            draw(root / "Training" / f"{person:04d}_c{camera}s1_000001_00.png", person, camera)
    for person in range(101, 111):
        draw(root / "Testing" / "Probe" / f"{person:04d}_c1s1_000001_00.png", person, 1)
        draw(root / "Testing" / "Gallery" / f"{person:04d}_c2s1_000002_00.png", person, 2)
    return root


def test_people_with_one_image_per_camera_have_one_query_each(tmp_path):
    images = read_comparison_data(compare_config(qut_set(tmp_path, (1, 2)), tmp_path / "out"))
    query, gallery = (images.sets[name] for name in images.neighbour_sets)
    assert sorted(query.person_ids) == sorted(gallery.person_ids)
    assert len(set(query.person_ids)) == len(query.person_ids)


def test_validation_people_with_one_image_each_are_refused_before_ray(tmp_path):
    message = refusal(qut_set(tmp_path, (1,)), tmp_path / "out")
    assert "none of these has two images: raise `val_fraction`" in message
