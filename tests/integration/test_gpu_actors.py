"""The engine for GPUs, whose crops Ray tasks decode, embeds as this process does."""

import json
import subprocess
import sys

import pytest
from support.nightly_runs import draw_images, make_model

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PROGRAM = """
import json, sys
import numpy as np, ray
from reidray.data.reading.image_folders import find_images
from reidray.inference.distributed.ray_data_engine import EmbeddingWork, embed_with_ray_data
from reidray.inference.image_batches import ImageSet, plan_batches
from reidray.inference.inference_settings import InferenceSettings
from reidray.inference.local_engine import embed_in_process
from reidray.inference.predictions import NO_TIME
from reidray.inference.ray_engine import EmbeddingPool, embed_with_ray
from reidray.models import load_person_model
from reidray.storage.location import Location

class PoolWithoutGPU(EmbeddingPool):
    device = "cpu"

def collect(results):
    return {
        each.batch.indices: (each.predictions.embeddings, each.digests, each.timing)
        for group in results for each in group
    }

model, settings = load_person_model(sys.argv[1]), InferenceSettings("bf16", flip=True)
folder = Location(sys.argv[2])
images = ImageSet("gallery", folder, find_images(folder).paths)
batches = plan_batches(images, np.arange(len(images.paths)))
expected = collect(embed_in_process(model, batches, settings=settings))
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
pool = PoolWithoutGPU(1, True)
found = collect(embed_with_ray(model, batches, settings=settings, pool=pool))
same = [
    np.array_equal(found[key][0], expected[key][0]) and found[key][1] == expected[key][1]
    for key in expected
]
timing = sum((each[2] for each in found.values()), NO_TIME)
print(json.dumps([len(found), all(same), timing.num_images, timing.input_wait]))

def read(item):
    yield batches[item]

def write(rows):
    named = zip(rows["path"].to_pylist(), rows["embedding"].to_pylist(), strict=True)
    return json.dumps({path: np.frombuffer(packed, "<f4").tolist() for path, packed in named})

work = EmbeddingWork(range(len(batches)), read, write)
receipts = embed_with_ray_data(
    model, work, ray.put(None), settings=settings, pool=pool, stall_minutes=5, on_progress=id
)
by_path = {path: values for receipt in receipts for path, values in json.loads(receipt).items()}
rows = {
    path: row.tolist()
    for group in embed_in_process(model, batches, settings=settings) for each in group
    for path, row in zip(each.batch.paths, each.predictions.embeddings, strict=True)
}
print(json.dumps([len(rows), by_path == rows]))
"""


def test_decode_tasks_and_concurrent_calls_change_no_embedding(tmp_path):
    model = make_model(tmp_path, "apr", PEDESTRIAN_SCHEMA)
    images = draw_images(tmp_path / "images", people=150, variants=4) / "gallery"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model), str(images)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    *_, actors, workers = run.stdout.splitlines()
    batches, same, num_images, input_wait = json.loads(actors)
    assert (batches, same, num_images) == (10, True, 600)
    assert 0 < input_wait < 1
    assert json.loads(workers) == [600, True]  # by Ray Data
