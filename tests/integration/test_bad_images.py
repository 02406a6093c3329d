"""Nights over folders that hold every file which other systems leave in them."""

import csv
import io
import json
import os
import re

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.bad_files import put_bad_files, unusual_images
from support.nightly_runs import Unreachable, draw, published, run_job, run_without_ray

from reidray.cli import job
from reidray.config.scoring import ScoreConfig
from reidray.data.ingest.compressed_paths import CompressedPaths
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.mode import ingest
from reidray.data.reading.annotations import ANNOTATION_COLUMNS, read_annotations
from reidray.data.reading.image_folders import list_images
from reidray.scoring.nightly_run import run_nightly
from reidray.scoring.ranking_file import read_ranking
from reidray.scoring.stages import missing_images
from reidray.storage.location import Location

pytestmark = pytest.mark.cluster
PEOPLE = 20
NEAREST = 10


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Draw the folders of a nightly run with every kind of bad image, and unusual images."""
    root = tmp_path_factory.mktemp("images")
    draw(root / "elsewhere" / "secret.png", 99, 0)
    for person in range(PEOPLE):
        draw(root / "queries" / f"{person:06d}.jpg", person, 0)
        draw(root / "gallery" / "day 1" / f"{person:06d}.png", person, 1)
    (root / "queries" / "odd").mkdir()
    with Image.open(root / "queries" / "000007.jpg") as pil_image:
        plain = pil_image.convert("L").convert("RGB")
    plain.save(root / "queries" / "plain.png")
    for name, data in unusual_images(plain).items():
        (root / "queries" / "odd" / name).write_bytes(data)
        (root / "gallery" / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def reasons(images):
    """Return the reason of each bad file by its name."""
    put_bad_files(images / "queries", images / "elsewhere")
    return put_bad_files(images / "gallery", images / "elsewhere")


@pytest.fixture(scope="module")
def scored(ray_address, model, images, reasons, tmp_path_factory):  # noqa: ARG001 - put there
    """Return the output of the job that keeps a row for missing images, and its JSON line."""
    output = tmp_path_factory.mktemp("scored") / "out"
    done = run_job(
        *("--model", model, "--queries", images / "queries", "--gallery", images / "gallery"),
        *("--output", output, "--max-bad", 0.5, "--keep-missing", "--num-workers", 1),
        *("--ray-address", ray_address, "--top-k", NEAREST),
    )
    assert done.returncode == 0, done.stderr
    return output, json.loads(done.stdout.splitlines()[-1])


def test_every_bad_file_is_in_the_quarantine_with_its_reason(scored, reasons):
    output, told = scored
    with (output / "quarantine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(name, split) for split in ("query", "gallery") for name in sorted(reasons)]
    assert [(row["file"], row["split"]) for row in rows] == expected
    assert all(re.search(reasons[row["file"]], row["reason"]) for row in rows)
    assert told["quarantined"] == len(rows) == 2 * len(reasons)


def test_quarantined_images_are_not_ranked_and_quarantined_queries_have_a_line(scored, reasons):
    ranking = read_ranking((scored[0] / "reid_test.txt").read_bytes(), "reid_test.txt")
    assert {query for query, names in ranking.items() if not names} == reasons.keys()
    assert {len(names) for query, names in ranking.items() if query not in reasons} == {NEAREST}
    assert not reasons.keys() & {name for names in ranking.values() for name in names}


def test_a_row_of_minus_ones_stands_for_a_missing_image_on_request_only(
    scored, model, images, reasons, tmp_path
):
    run_without_ray(model, images, tmp_path / "out", max_bad=0.5, top_k=NEAREST)
    asked, plain = published(scored[0]), published(tmp_path / "out")
    both = [side.pop("classification_test.csv").decode() for side in (asked, plain)]
    assert asked == plain
    with_missing, without = (list(csv.reader(io.StringIO(text))) for text in both)
    nothing = ["-1"] * len(ANNOTATION_COLUMNS)
    missing = {row[0]: row for row in with_missing if row[1:] == nothing}
    assert missing.keys() == reasons.keys()
    assert [row for row in with_missing if row[0] not in missing] == without
    assert [row[0] for row in with_missing[1:]] == sorted(row[0] for row in with_missing[1:])
    described, described_without = (read_annotations(text.encode(), "csv") for text in both)
    assert described == described_without
    assert len(described) == PEOPLE + len(unusual_images(Image.new("RGB", (1, 1))))


def test_unusual_images_are_ranked_as_the_plain_one(scored, images):
    ranking = read_ranking((scored[0] / "reid_test.txt").read_bytes(), "reid_test.txt")
    plain = ranking["plain.png"]
    odd = sorted(path.name for path in (images / "queries" / "odd").iterdir())
    assert len(odd) > 10
    for name in odd:
        names = ranking[f"odd/{name}"]
        if name.endswith(".jpg") and name != "png.jpg":  # not quite the same pixels
            assert len(set(names) & set(plain)) >= NEAREST - 2, name
        else:
            assert names == plain, name


def test_more_bad_images_than_may_be_fail_the_job_which_names_some(scored, model, images, capsys):
    output, before = scored[0], published(scored[0])
    with pytest.raises(SystemExit) as ended:
        job.run_job(lambda: run_without_ray(model, images, output))
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    complaint = (
        r"^error: \d+ of \d+ images .*max.bad.0\.01\b.*"
        r"queries/bomb\.png: .*queries/cut off\.jpg: "
    )
    assert re.search(complaint, captured.err, re.MULTILINE)
    assert published(output) == before


def test_an_image_that_vanishes_after_it_was_listed_is_set_aside(model, tmp_path, monkeypatch):
    for person in range(4):
        draw(tmp_path / "queries" / f"{person}.png", person, 0)
        draw(tmp_path / "gallery" / f"{person}.png", person, 1)

    def look_up_images(*arguments):
        (tmp_path / "gallery" / "2.png").unlink()
        return missing_images.look_up_images(*arguments)

    monkeypatch.setattr("reidray.scoring.nightly_run.look_up_images", look_up_images)
    run_without_ray(model, tmp_path, tmp_path / "output", max_bad=0.25)
    quarantine = (tmp_path / "output" / "quarantine.csv").read_text().splitlines()
    assert quarantine[1:] == ["2.png,gallery,No such file or directory"]
    ranking = read_ranking((tmp_path / "output" / "reid_test.txt").read_bytes(), "txt")
    assert set(ranking["2.png"]) == {"0.png", "1.png", "3.png"}


@pytest.mark.parametrize("part", ["queries", "gallery"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"one, two.png", "'one, two.png'"),
        (b"at: noon.png", "'at: noon.png'"),
        (b"two\nlines.png", r"'two\nlines.png'"),
        (b'a "quote".png', "'a \"quote\".png'"),
        (b" first.png", "' first.png'"),
        (b"caf\xe9.png", r"'caf\udce9.png'"),
        (b"inner\x1b[31m/red.png", r"'inner\x1b[31m/red.png'"),
    ],
)
def test_a_name_that_the_files_cannot_carry_is_refused_before_any_work(
    name, shown, part, model, tmp_path, capsys
):
    for folder in ("queries", "gallery"):
        draw(tmp_path / folder / "10:30 a good one.png", 1, 0)
    strange = tmp_path / part / os.fsdecode(name)
    strange.parent.mkdir(exist_ok=True)
    strange.write_bytes((tmp_path / part / "10:30 a good one.png").read_bytes())
    settings = {name: str(tmp_path / name) for name in ("queries", "gallery", "output")}
    with pytest.raises(SystemExit) as ended:
        job.run_job(
            lambda: run_nightly(
                ScoreConfig(model=str(model), **settings), Unreachable(), starts_ray=True
            )
        )
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert captured.err.startswith(f"error: file name {shown} ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "output").exists()


@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize("way", ["resident", "stream"])
def test_a_training_sets_the_same_files_aside(way, images, reasons):
    location = Location(str(images / "gallery"))
    paths = list_images(location)
    compressed = CompressedPaths.from_column(pa.array(paths))
    crops = ingest(ImageFiles(location, compressed, np.arange(len(paths)) // 8, (8, 6)), way)
    assert [bad.path for bad in crops.bad] == sorted(reasons)
    assert all(re.search(reasons[bad.path], bad.reason) for bad in crops.bad)
    assert crops.decoded.tolist() == [path not in reasons for path in paths]
