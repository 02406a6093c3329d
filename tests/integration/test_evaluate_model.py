import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.nightly_runs import Unreachable, draw

from reidray.config.scoring import EvaluateConfig
from reidray.errors import UserError
from reidray.evaluation.evaluation_run import run_evaluation
from reidray.evaluation.model_evaluation import evaluate_model


def evaluate_without_ray(config):
    return evaluate_model(config, Unreachable(), starts_ray=True)


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_address")
def test_a_model_is_evaluated_on_a_labelled_set(model, tmp_path):
    for person in range(1, 9):
        draw(tmp_path / "query" / f"{person:04d}_c1s1_000001_00.png", person, 0)
        draw(tmp_path / "bounding_box_test" / f"{person:04d}_c1s1_000002_00.png", person, 0)
        draw(tmp_path / "bounding_box_test" / f"{person:04d}_c2s1_000003_00.png", person, 1)
        draw(tmp_path / "bounding_box_train" / f"{person + 20:04d}_c1s1_000001_00.png", person, 2)
    config = EvaluateConfig(model=str(model), data=str(tmp_path))
    metrics = evaluate_model(replace(config, num_workers=1)).metrics
    assert evaluate_without_ray(config).metrics == metrics
    assert (metrics["queries"], metrics["gallery"]) == (8, 16)
    assert "market1501" in metrics["protocol"]
    assert metrics["mean_ap"] > 0.8


def draw_one_image_per_person(root):
    for person in range(1, 9):
        draw(root / "Testing" / "Probe" / f"{person:04d}_c1s1_000001_00.png", person, 0)
        other = 1 + person % 2
        draw(root / "Testing" / "Gallery" / f"{person:04d}_c{other}s1_000002_00.png", person, 1)
    return root


def test_a_gallery_of_one_image_per_person_is_evaluated_whole_and_leaves_a_folder(model, tmp_path):
    data = draw_one_image_per_person(tmp_path / "qut")
    (data / "Testing" / "Probe" / "0003_c1s1_000001_00.png").write_bytes(b"no image")
    asked = {"model": str(model), "data": str(data), "max_bad": 0.2}
    config = EvaluateConfig(**asked, output=str(tmp_path / "out"))
    metrics = run_evaluation(config, Unreachable(), starts_ray=True)
    assert "single_shot" in metrics["protocol"]
    counts = (metrics["queries"], metrics["queries_used"], metrics["quarantined"])
    assert counts == (7, 7, 1)
    with (tmp_path / "out" / "per_query.csv").open() as file:
        rows = list(csv.DictReader(file))
    people = {int(Path(row["query"]).name[:4]): row for row in rows}
    assert sorted(people) == [1, 2, 4, 5, 6, 7, 8]
    assert all(int(row["person"]) == person for person, row in people.items())
    asked |= {"precision": "bf16", "flip": True}
    by_camera = evaluate_without_ray(EvaluateConfig(**asked, protocol="market1501")).metrics
    assert (by_camera["queries_used"], by_camera["queries_without_match"]) == (3, 4)
    assert by_camera["model"] == f"{metrics['model']}-bf16-flip"


def test_labels_that_do_not_fit_the_protocol_are_found_before_ray_starts(model, tmp_path):
    data = draw_one_image_per_person(tmp_path / "qut")
    draw(data / "Testing" / "Gallery" / "0002_c4s1_000009_00.png", 2, 2)
    config = EvaluateConfig(model=str(model), data=str(data), protocol="single_shot")
    with pytest.raises(UserError, match="person 2 2 times") as caught:
        evaluate_model(config, Unreachable())
    assert str(data) in str(caught.value)


def draw_labelled(root):
    """Draw twelve men and two women by two cameras, and an empty street three times."""
    rows = ["path,split,person,camera,attr_gender"]
    for person in range(1, 15):
        gender = "male" if person <= 12 else "female"
        for split, camera in (("query", 1), ("gallery", 2)):
            draw(root / split / f"{person}.png", person, camera)
            rows.append(f"{split}/{person}.png,{split},{person},{camera},{gender}")
    for number in range(3):
        draw(root / "gallery" / f"street{number}.png", 100 + number, 0)
        rows.append(f"gallery/street{number}.png,gallery,0,3,")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def test_metrics_by_gender_and_of_distractor_scores(model, tmp_path):
    data = draw_labelled(tmp_path / "set")
    asked = {"model": str(model), "data": str(data)}
    config = EvaluateConfig(**asked, distractor_scores=True, output=str(tmp_path / "out"))
    run_evaluation(config, Unreachable(), starts_ray=True)
    metrics = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    men, women = metrics["groups"]
    assert (men["group"], men["queries"], men["people"]) == ("gender male", 12, 12)
    assert (women["group"], women["queries"], women["people"]) == ("gender female", 2, 2)
    assert (12 * men["mean_ap"] + 2 * women["mean_ap"]) / 14 == pytest.approx(metrics["mean_ap"])
    low, high = men["mean_ap_interval"]
    assert low <= men["mean_ap"] <= high
    assert women["mean_ap_interval"] is None
    assert "10 people" in metrics["group_intervals"]
    result = metrics["distractor_scores"]["distractors"]
    assert result.keys() == {"distractor_score", "attribute_doubt"}
    for found in result.values():
        assert (found["distractors"], found["people"]) == (3, 14)
        assert found["interval"][0] <= found["auc"] <= found["interval"][1]


def test_distractor_scores_of_a_set_without_distractors_are_refused_before_ray_starts(
    model, tmp_path
):
    data = draw_one_image_per_person(tmp_path / "qut")
    config = EvaluateConfig(model=str(model), data=str(data), distractor_scores=True)
    with pytest.raises(UserError, match="leave out `distractor_scores`"):
        evaluate_model(config, Unreachable())


def test_each_model_is_evaluated_on_each_set_as_it_is_alone(model, tmp_path):
    first = draw_one_image_per_person(tmp_path / "first")
    second = draw_one_image_per_person(tmp_path / "second")
    draw(second / "Testing" / "Gallery" / "0002_c4s1_000009_00.png", 2, 9)
    copied = tmp_path / "copied" / "model"
    shutil.copytree(model, copied)
    models, sets = (str(model), str(copied)), (str(first), str(second))
    config = EvaluateConfig(
        model=models,
        data=sets,
        layout=("qut", "auto"),
        output=str(tmp_path / "out"),
    )
    line = run_evaluation(config, Unreachable(), starts_ray=True)
    alone = evaluate_without_ray(EvaluateConfig(model=str(model), data=sets[1])).metrics
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(line["models"]) == list(record["models"])
    assert "copied" in line["models"]
    for each in record["models"].values():
        found = each["datasets"]["second"]
        assert {name: found[name] for name in alone} == alone
        assert each["datasets"]["first"]["gallery"] == 8
        assert each["images_per_second"] > 0
    assert (tmp_path / "out" / "cross_domain.html").is_file()
