"""Nightly runs with a store of embeddings, on a disk and in a bucket."""

import json
import os
import shutil
import time

import pytest
from support.nightly_runs import draw, published, run_job, run_with_ray, run_without_ray
from support.s3_server import latest_run

from reidray.scoring.ranking_file import read_ranking
from reidray.storage.location import Location

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_address")]


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Draw twelve queries and thirty-six gallery images, old enough to be known by their times."""
    monkeypatch.setattr("reidray.storage.location.FRESH_NS", 0)
    for person in range(12):
        draw(tmp_path / "images" / "queries" / f"{person:06d}.png", person, 0)
        for variant in range(1, 4):
            draw(
                tmp_path / "images" / "gallery" / f"day{variant}" / f"{person}.png", person, variant
            )
    return tmp_path / "images"


def names_of(output):
    return read_ranking((output / "reid_test.txt").read_bytes(), "reid_test.txt")


def test_the_second_run_embeds_what_is_new_and_writes_what_a_nightly_run_without_a_store_does(
    model, images, tmp_path
):
    store = {"store": str(tmp_path / "store")}
    out = tmp_path / "out"
    assert run_with_ray(model, images, out, **store)["embedded"] == 48
    first = published(out)
    summary = run_without_ray(model, images, out, **store)
    assert (summary["embedded"], summary["workers"]) == (0, 0)
    assert published(out) == first

    gallery = images / "gallery"
    draw(gallery / "day4" / "0.png", 0, 4)
    (gallery / "day1" / "1.png").rename(gallery / "day1" / "renamed.png")
    draw(gallery / "day2" / "2.png", 40, 2)
    (gallery / "day3" / "3.png").unlink()
    (gallery / "day3" / "4.png").write_bytes(b"no image")
    changed = run_without_ray(model, images, out, **store, max_bad=0.1)
    assert (changed["embedded"], changed["quarantined"]) == (2, 1)
    alone = run_without_ray(model, images, tmp_path / "alone", max_bad=0.1)
    assert alone["embedded"] == 47
    assert published(out) == published(tmp_path / "alone")
    everybody = set().union(*names_of(out).values())
    assert {"day4/0.png", "day1/renamed.png"} <= everybody
    assert not everybody & {"day1/1.png", "day3/3.png", "day3/4.png"}
    again = run_without_ray(model, images, out, **store, max_bad=0.1)
    assert (again["embedded"], again["quarantined"]) == (0, 1)


@pytest.mark.slow
def test_another_model_embeds_all_and_so_does_a_full_run(model, images, tmp_path):
    store = {"store": str(tmp_path / "store")}
    run_with_ray(model, images, tmp_path / "out", **store)
    other = shutil.copytree(model, tmp_path / "other")
    description = json.loads((other / "model.json").read_text())
    description["card"]["recipe"] = {"epochs": 2}
    (other / "model.json").write_text(json.dumps(description))
    assert run_with_ray(other, images, tmp_path / "out", **store)["embedded"] == 48
    assert run_with_ray(model, images, tmp_path / "out", **store)["embedded"] == 0
    parts = {path: path.stat().st_size for path in (tmp_path / "store" / "parts").iterdir()}
    assert len(parts) == 2
    assert run_with_ray(model, images, tmp_path / "out", **store, full=True)["embedded"] == 48
    sizes = sorted(path.stat().st_size for path in (tmp_path / "store" / "parts").iterdir())
    assert len(sizes) == 3
    assert sizes[0] < min(parts.values()) <= sizes[1]  # of the first part only the names stay
    assert run_with_ray(model, images, tmp_path / "out", **store)["embedded"] == 0


def upload(folder, uri):
    location = Location(uri)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        location.write_bytes(file.relative_to(folder).as_posix(), file.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray-data"])
def test_a_nightly_run_in_a_bucket_that_fails_now_and_then_is_that_of_a_disk(
    engine, model, images, tmp_path, bucket, unreliable, monkeypatch
):
    run_with_ray(model, images, tmp_path / "out")
    upload(images, f"{bucket}/images")
    upload(model, f"{bucket}/model")
    unreliable.busy = unreliable.cut = unreliable.slow = 0.05
    asked = ("--model", f"{bucket}/model", "--queries", f"{bucket}/images/queries")
    asked += ("--gallery", f"{bucket}/images/gallery", "--output", f"{bucket}/scores")
    asked += ("--store", f"{bucket}/store", "--num-workers", 1, "--engine", engine)
    time.sleep(2.5)  # until the files are old enough to be known by their times
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    done = run_job(*asked, "--s3-endpoint", endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["embedded"], summary["output"]) == (48, f"{bucket}/scores")
    # Ray Data reads the names of a piece of work without counting.
    assert summary["retries"] >= unreliable.met["cut"] - 2 * (engine == "ray-data") > 0
    run = latest_run(f"{bucket}/scores")
    for name, data in published(tmp_path / "out").items():
        assert run.read_bytes(name) == data
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    texts = [done.stdout, done.stderr]
    texts += [run.read_bytes(name).decode() for name in run.list_files()]
    assert not any(secret in text for text in texts)
    where = {"queries": f"{bucket}/images/queries", "gallery": f"{bucket}/images/gallery"}
    again = run_without_ray(
        f"{bucket}/model", images, f"{bucket}/scores", **where, store=f"{bucket}/store"
    )
    assert (again["embedded"], again["queries_searched"]) == (0, 0)
