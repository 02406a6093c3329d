"""Files in the folders of a nightly run beside images with common names. No Ray is started."""

import json
import logging
import shutil

import pytest
from support.nightly_runs import draw_images, make_model, run_without_ray

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), "apr", PEDESTRIAN_SCHEMA)


def test_a_nightly_run_ranks_images_of_any_suffix_and_counts_skipped_files(model, tmp_path, caplog):
    images = draw_images(tmp_path, people=3, variants=1)
    gallery = images / "gallery" / "day1"
    (images / "queries" / "000000.jpg").rename(images / "queries" / "000000.jfif")
    (gallery / "000001.png").rename(gallery / "000001")
    for name in ("notes.txt", "more.txt", "list.csv", "Thumbs.db", "._000000.png"):
        (gallery / name).write_text("no image")
    caplog.set_level(logging.INFO, "reidray")
    summary = run_without_ray(model, images, tmp_path / "out")
    ranking = (tmp_path / "out" / "reid_test.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in ranking] == [
        "000000.jfif",
        "000001.jpg",
        "000002.jpg",
    ]
    assert all("day1/000001" in line.split(": ")[1].split(", ") for line in ranking)
    written = json.loads((tmp_path / "out" / "scoring.json").read_text())
    for counts in (summary, written):
        assert counts["passed_over"] == {"queries": {}, "gallery": {".txt": 2, ".csv": 1}}
        assert (counts["gallery"], counts["quarantined"]) == (3, 0)
    assert f"{images / 'gallery'}: skipped: 2 .txt, 1 .csv" in caplog.messages


def test_a_small_run_that_asks_for_a_gpu_is_not_embedded_on_the_cpu(model, tmp_path):
    images = draw_images(tmp_path, people=2, variants=1)
    with pytest.raises(AssertionError, match="Ray was started"):
        run_without_ray(model, images, tmp_path / "out", use_gpu="yes")
    assert not (tmp_path / "out").exists()


def test_a_store_keeps_embeddings_of_each_precision_and_flip_apart(model, tmp_path, caplog):
    images = draw_images(tmp_path, people=3, variants=1)
    plain = {"store": str(tmp_path / "store")}
    first = run_without_ray(model, images, tmp_path / "out", **plain)
    assert (first["precision"], first["flip"], first["embedded"]) == ("fp32", False, 6)
    ranking = (tmp_path / "out" / "reid_test.txt").read_bytes()
    known = {first["model"]}
    for changes, suffix in (({"flip": True}, "-flip"), ({"precision": "bf16"}, "-bf16")):
        caplog.clear()
        other = run_without_ray(model, images, tmp_path / "out", **plain, **changes)
        assert (other["model"], other["embedded"]) == (first["model"] + suffix, 6)
        (line,) = [each for each in caplog.messages if "another precision or flip" in each]
        assert f"({', '.join(sorted(known))})" in line
        assert line.endswith(f" embedded again as {other['model']}")
        known.add(other["model"])
        again = run_without_ray(model, images, tmp_path / "out", **plain, **changes)
        assert (again["model"], again["embedded"]) == (other["model"], 0)
    caplog.clear()
    last = run_without_ray(model, images, tmp_path / "out", **plain, precision="fp32")
    assert (last["model"], last["embedded"]) == (first["model"], 0)
    assert (tmp_path / "out" / "reid_test.txt").read_bytes() == ranking
    assert "another precision" not in caplog.text


def test_the_summary_says_how_fast_images_were_embedded_and_how_long_the_network_waited(
    model, tmp_path
):
    images = draw_images(tmp_path, people=3, variants=1)
    summary = run_without_ray(model, images, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "scoring.json").read_text())
    assert {"output": str(tmp_path / "out"), **written} == summary
    assert written["images_per_second"] > 0
    assert 0 < written["input_wait"] < 1


def test_a_nightly_run_follows_links_out_of_its_folders_where_that_is_asked_for(model, tmp_path):
    images = draw_images(tmp_path / "plain", people=3, variants=1)
    for file in [path for path in images.rglob("*") if path.is_file()]:
        link = tmp_path / "linked" / file.relative_to(images)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    with pytest.raises(UserError, match=r"3 of 3 images .* see `follow_links`"):
        run_without_ray(model, tmp_path / "linked", tmp_path / "out")
    run_without_ray(model, tmp_path / "linked", tmp_path / "out", follow_links=True)
    run_without_ray(model, images, tmp_path / "same")
    for name in ("reid_test.txt", "classification_test.csv", "quarantine.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    shutil.rmtree(tmp_path / "linked" / "gallery")
    (tmp_path / "linked" / "gallery").mkdir()
    (tmp_path / "linked" / "gallery" / "day1").symlink_to(images / "gallery" / "day1")
    with pytest.raises(UserError, match=r"day1: is a link that leaves .*`follow_links=True`"):
        run_without_ray(model, tmp_path / "linked", tmp_path / "out")
    run_without_ray(model, tmp_path / "linked", tmp_path / "out", follow_links=True)
