"""Nightly runs by Ray Data write what the local engine writes, whatever happens to workers."""

import json
import os
import signal

import pytest
from support.nightly_runs import (
    draw,
    draw_images,
    published,
    run_job,
    run_with_ray,
    run_without_ray,
)
from support.s3_server import latest_run

from reidray.scoring.stages import embed_missing
from reidray.storage.location import Location

pytestmark = pytest.mark.cluster

OPTIONS = {"engine": "ray-data", "max_bad": 0.2}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = draw_images(tmp_path_factory.mktemp("nightly"), people=20, variants=20)
    (folder / "gallery" / "day2" / "torn.png").write_bytes(b"no image")
    (folder / "gallery" / "day2" / "gone.png").symlink_to("nowhere")
    return folder


@pytest.fixture(scope="module")
def expected(model, images, tmp_path_factory):
    """Return the files of the local engine."""
    out = tmp_path_factory.mktemp("local") / "out"
    run_without_ray(model, images, out, max_bad=0.2, engine="local")
    return published(out)


@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_write_the_files_of_the_local_engine(workers, model, images, expected, tmp_path):
    store = {"store": str(tmp_path / "store"), "num_workers": workers, **OPTIONS}
    summary = run_with_ray(model, images, tmp_path / "out", **store)
    assert (summary["engine"], summary["workers"]) == ("ray-data", workers)
    assert (summary["embedded"], summary["quarantined"]) == (420, 2)
    assert published(tmp_path / "out") == expected
    again = run_without_ray(model, images, tmp_path / "again", store=store["store"], max_bad=0.2)
    # The local engine reads what the workers wrote, but for files within two seconds of a change.
    assert (again["embedded"], again["queries_searched"]) == (0, 0)
    assert published(tmp_path / "again") == expected
    options = {"store": store["store"], "rerank": 30, "expand": 5, "top_k": 10, "max_bad": 0.2}
    options |= {"distractor_scores": True, "max_distractor_score": 3e-4, "attribute_neighbours": 9}
    summary = run_with_ray(model, images, tmp_path / "out", engine="ray-data", **options)
    assert 0 < summary["distractors_left_out"] < 200
    run_without_ray(model, images, tmp_path / "again", **options)
    assert published(tmp_path / "out") == published(tmp_path / "again") != expected
    by_workers, here = ((tmp_path / name / "distractors.csv") for name in ("out", "again"))
    assert by_workers.read_bytes() == here.read_bytes()


@pytest.mark.usefixtures("ray_address")
def test_the_second_night_of_workers_searches_new_images_only(model, tmp_path):
    images = draw_images(tmp_path / "images", people=4, variants=5)
    store = {"store": str(tmp_path / "store"), "engine": "ray-data", "top_k": 8}
    assert run_with_ray(model, images, tmp_path / "out", **store)["queries_searched"] == 4
    first = published(tmp_path / "out")
    draw(images / "gallery" / "day3" / "new.png", 2, 9)
    draw(images / "queries" / "new.png", 1, 8)
    (images / "gallery" / "day2" / "000001.png").unlink()
    assert run_with_ray(model, images, tmp_path / "out", **store)["queries_searched"] == 1
    run_without_ray(model, images, tmp_path / "alone", top_k=8)
    assert published(tmp_path / "out") == published(tmp_path / "alone") != first


@pytest.mark.usefixtures("ray_address")
def test_a_worker_that_dies_while_it_writes_leaves_no_trace(
    model, images, expected, tmp_path, monkeypatch
):
    flag = tmp_path / "died"
    monkeypatch.setattr(embed_missing, "write_file", dying_writer(str(flag)))
    run_with_ray(model, images, tmp_path / "out", store=str(tmp_path / "store"), **OPTIONS)
    assert flag.exists()
    assert published(tmp_path / "out") == expected


def dying_writer(flag):
    """Return a writer that kills its process after the first file; Ray pickles it by value."""
    write_file = embed_missing.write_file

    def write(rows, images):
        receipt = write_file(rows, images)
        if not os.path.exists(flag):  # noqa: PTH110 - pickled by value
            open(flag, "x").close()  # noqa: PTH123
            os.kill(os.getpid(), signal.SIGKILL)
        return receipt

    return write


def test_a_job_in_a_bucket_writes_the_same_and_leaves_no_working_file(
    model, images, expected, bucket
):
    for name, folder in (("images", images), ("model", model)):
        for file in sorted(path for path in folder.rglob("*.*") if path.is_file()):
            path = file.relative_to(folder).as_posix()
            Location(f"{bucket}/{name}").write_bytes(path, file.read_bytes())
    output = f"{bucket}/scores"
    options = ("--model", f"{bucket}/model", "--queries", f"{bucket}/images/queries")
    options += ("--gallery", f"{bucket}/images/gallery", "--output", output)
    options += ("--store", f"{bucket}/store", "--engine", "ray-data", "--max-bad", 0.2)
    options += ("--distractor-scores",)
    done = run_job(*options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["embedded"] == 420
    run = latest_run(output)
    for name in ("reid_test.txt", "classification_test.csv"):
        assert run.read_bytes(name) == expected[name]
    assert len(run.read_bytes("distractors.csv").splitlines()) == 401
    assert not [name for name in Location(output).list_files() if name.startswith("work/")]

    wrong = run_job(*options[:4], "--gallery", f"{bucket}/images/nothing", *options[6:])
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1), wrong.stderr
