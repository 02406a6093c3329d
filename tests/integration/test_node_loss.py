"""Nodes that are lost while they embed."""

import json
import threading
import time

import psutil
import pytest
from support.nightly_runs import ROOT, draw_images, published, run_without_ray
from support.ray_heads import end_node, ray_head

from reidray.inference.runs import embedding_engine

pytestmark = pytest.mark.cluster


def embeds(raylet):
    """Return whether a worker of a node has begun to embed."""
    for process in raylet.children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if words and words[0].startswith("ray::EmbeddingActor.decode_and_embed"):
            return True
    return False


@pytest.mark.timeout(240)
def test_a_node_lost_while_it_embeds_costs_no_image_and_the_files_are_those_of_a_quiet_run(
    model, tmp_path, monkeypatch
):
    images = draw_images(tmp_path / "images", people=100, variants=40)
    with ray_head(cpus=0) as head:
        raylets = [head.add_node(cpus=1) for _ in range(2)]
        job = head.start(
            *(ROOT / "jobs" / "score_nightly.py", "--model", model, "--num-workers", "2"),
            *("--queries", images / "queries", "--gallery", images / "gallery"),
            *("--output", tmp_path / "out", "--flip", "--engine", "local"),
        )

        def lose_node():
            while job.poll() is None:
                for raylet in filter(embeds, raylets):
                    end_node(raylet)
                    return
                time.sleep(0.05)

        losing = threading.Thread(target=lose_node)
        losing.start()
        said, messages = job.communicate(timeout=200)
        losing.join()
    assert job.returncode == 0, messages
    assert json.loads(said.splitlines()[-1])["embedded"] == 4100
    assert "others embed its images" in messages
    monkeypatch.setattr(embedding_engine, "MAX_ON_CPU", 10_000)
    run_without_ray(model, images, tmp_path / "quiet", flip=True)
    assert published(tmp_path / "out") == published(tmp_path / "quiet")
