"""A nightly run on a cluster exports its metrics, which a scrape finds after the job has ended."""

import shutil
import time

import pytest
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES
from support.monitoring_files import GPU_METRICS, NODE_METRICS
from support.nightly_runs import draw, draw_images, run_job, run_without_ray
from support.scrapes import scrape

from reidray.monitoring.metric_definitions import (
    DEFINITIONS,
    RAY_PREFIX,
    TRAINING_EPOCH,
    TRAINING_IMAGES,
)
from reidray.monitoring.metrics_exporter import MetricsExporter

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw_images(tmp_path_factory.mktemp("nights"), people=6, variants=3)


@pytest.fixture(scope="module")
def score(ray_address, model, images):
    """Return a function that scores the images on the cluster, and returns what that exports."""

    def score(output, *options):
        done = run_job(
            *("--model", model, "--queries", images / "queries", "--gallery", images / "gallery"),
            *("--output", output, "--ray-address", ray_address, "--use-gpu", "no"),
            *("--engine", "local", *options),  # nothing but the metrics needs Ray
        )
        return done, scrape(output)

    return score


@pytest.fixture(scope="module")
def second_night(score, model, images):
    """Score two nights, and return what the second exports.

    An image of its gallery is new, one has changed, six are gone, and one is bad.
    """
    output, store = images / "scores", images / "store"
    run_without_ray(model, images, output, store=str(store))
    draw(images / "gallery" / "day4" / "000000.png", 0, 4)
    draw(images / "gallery" / "day1" / "000000.png", 0, 9)
    (images / "gallery" / "day2" / "000001.png").write_bytes(b"no image")
    shutil.rmtree(images / "gallery" / "day3")
    done, exported = score(output, "--store", store, "--max-bad", 0.2)
    assert done.returncode == 0, done.stderr
    return exported


def test_a_night_exports_its_counts_and_its_end(second_night):
    counts = {key: value for key, value in second_night.items() if "images" in key[0]}
    pace = counts.pop(("ray_reidray_nightly_images_per_second",))
    assert pace > 0
    assert counts == {
        ("ray_reidray_nightly_images", "role=queries"): 6,
        ("ray_reidray_nightly_images", "role=gallery"): 13,
        ("ray_reidray_nightly_new_images", "role=queries"): 0,
        ("ray_reidray_nightly_new_images", "role=gallery"): 1,
        ("ray_reidray_nightly_changed_images", "role=queries"): 0,
        ("ray_reidray_nightly_changed_images", "role=gallery"): 1,
        ("ray_reidray_nightly_gone_images", "role=queries"): 0,
        ("ray_reidray_nightly_gone_images", "role=gallery"): 6,
        ("ray_reidray_nightly_embedded_images",): 2,
        ("ray_reidray_nightly_quarantined_images",): 1,
    }
    ended = second_night["ray_reidray_nightly_end_timestamp_seconds", "outcome=succeeded"]
    assert 0 < time.time() - ended < 600
    stages = {key[1] for key in second_night if key[0] == "ray_reidray_nightly_stage_seconds"}
    assert {"stage=look up", "stage=embed", "stage=rank", "stage=write"} <= stages


def test_a_night_with_distractors_exports_every_metric_of_nights(second_night, score, tmp_path):
    done, exported = score(tmp_path / "out", "--max-bad", 0.2, "--max-distractor-score", 1e9)
    assert done.returncode == 0, done.stderr
    assert exported["ray_reidray_nightly_distractor_images",] == 0
    defined = {each.exported_name for each in DEFINITIONS if "nightly" in each.name}
    assert {key[0] for key in (*second_night, *exported)} == defined


@pytest.mark.usefixtures("second_night")
def test_ray_exports_the_metrics_of_machines_that_the_dashboards_show():
    assert {key[0] for key in scrape()} >= NODE_METRICS
    gauges = {f"{RAY_PREFIX}{name}" for name in METRICS_GAUGES}
    assert gauges >= NODE_METRICS | GPU_METRICS


@pytest.mark.usefixtures("second_night")
def test_a_night_that_fails_exports_when(score, tmp_path):
    done, exported = score(tmp_path / "out", "--max-bad", 0)
    assert done.returncode == 2
    ((name, outcome), ended) = next(iter(exported.items()))
    assert (name, outcome) == ("ray_reidray_nightly_end_timestamp_seconds", "outcome=failed")
    assert 0 < time.time() - ended < 600
    assert len(exported) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_a_value_stays_as_long_as_its_job_and_half_a_minute():
    exporter = MetricsExporter("/runs/a")
    with exporter:
        exporter.set(TRAINING_EPOCH, 3)
        exporter.add(TRAINING_IMAGES, 2)
        time.sleep(50)
        values = {("ray_reidray_training_epoch",): 3, ("ray_reidray_training_images_total",): 2}
        assert scrape("/runs/a") == values
    time.sleep(35)
    assert scrape("/runs/a") == {("ray_reidray_training_images_total",): 2}
