"""Actors that hang: a message names them, and another process does the work."""

import logging
import os
import re
import signal
import socket
import time

import numpy as np
import psutil
import pytest
import ray
from support.nightly_runs import draw_images, published, run_with_ray
from support.processes import worker_processes

from reidray.errors import MachineError
from reidray.inference.actors import actor_pool
from reidray.inference.actors.actor_pool import run_on_actors
from reidray.inference.actors.pool_slots import Actor, ActorAddress, BlockTask
from reidray.inference.image_batches import BatchPredictions, ImageBatch
from reidray.inference.predictions import PredictionShape
from reidray.storage.location import Location

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_address")]

ROWS = 24


def hanging_actor():
    """Return the class of an actor; Ray pickles a class that a function makes by value."""
    nothing = PredictionShape(1, 0).empty(1)

    class HangingActor:
        """Yield the index of each batch; stop the process at one batch, `stops` times."""

        def __init__(self, folder, stops):
            self._folder, self._stops = folder, stops

        def address(self):
            node = ray.get_runtime_context().get_node_id()
            return ActorAddress(socket.gethostname(), node, os.getpid())

        @ray.method(num_returns="streaming")
        def embed(self, block):
            for batch in block:
                stopped = len(list(self._folder.iterdir()))
                if batch.indices == (5,) and stopped < self._stops:
                    (self._folder / str(os.getpid())).touch()
                    os.kill(os.getpid(), signal.SIGSTOP)
                yield [BatchPredictions(batch, (), np.arange(1), nothing, {}, 0)]

    return HangingActor


def failing_actor():
    """Return the class of an actor that has no memory on its GPU."""

    class FailingActor:
        def __init__(self, *_):
            pass

        def address(self):
            node = ray.get_runtime_context().get_node_id()
            return ActorAddress(socket.gethostname(), node, os.getpid())

        @ray.method(num_returns="streaming")
        def embed(self, _):
            raise MachineError("embedding: the GPU has too little memory")
            yield

    return FailingActor


def dying_actor():
    """Return the class of an actor whose process dies at one batch, `deaths` times."""
    nothing = PredictionShape(1, 0).empty(1)

    class DyingActor:
        def __init__(self, folder, deaths):
            self._folder, self._deaths = folder, deaths

        def address(self):
            node = ray.get_runtime_context().get_node_id()
            return ActorAddress(socket.gethostname(), node, os.getpid())

        @ray.method(num_returns="streaming")
        def embed(self, block):
            for batch in block:
                died = len(list(self._folder.iterdir()))
                if batch.indices == (5,) and died < self._deaths:
                    (self._folder / str(os.getpid())).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                yield [BatchPredictions(batch, (), np.arange(1), nothing, {}, 0)]

    return DyingActor


def run(folder, stops, stall_seconds=6.0, actor_class=hanging_actor):
    """Return the indices that come back where an actor stops `stops` times."""
    actor = ray.remote(num_cpus=0.5)(actor_class())

    def start(strategy):
        worker = actor.options(scheduling_strategy=strategy).remote(folder, stops)
        return Actor(
            worker,
            lambda block: BlockTask(block, worker.embed.remote(block)),
            worker.address.remote(),
        )

    crops = Location("/crops")
    batches = [ImageBatch("gallery", crops, (row,), (f"{row}.jpg",)) for row in range(ROWS)]
    blocks = (batches[first : first + 4] for first in range(0, ROWS, 4))
    results = run_on_actors(
        start, num_actors=2, blocks=blocks, blocks_in_flight=2, stall_seconds=stall_seconds
    )
    return [each.batch.indices[0] for result in results for each in result]


def test_the_error_of_a_worker_keeps_its_one_line(tmp_path):
    with pytest.raises(MachineError) as caught:
        run(tmp_path, stops=0, actor_class=failing_actor)
    assert str(caught.value) == "embedding: the GPU has too little memory"
    while worker_processes("FailingActor"):  # which the traceback of the error still names
        time.sleep(0.1)


def test_workers_that_die_are_replaced_and_each_image_is_done_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "reidray"):
        rows = run(tmp_path, stops=2, actor_class=dying_actor)
    assert sorted(rows) == list(range(ROWS))
    assert len(list(tmp_path.iterdir())) == 2
    assert caplog.text.count("others embed its images, and it is started again in ") == 2


def test_workers_that_die_at_the_same_image_again_and_again_end_the_job_with_one_line(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(actor_pool, "MAX_RESTARTS", 2)
    monkeypatch.setattr(actor_pool, "MIN_LOSS_SECONDS", 0.0)
    monkeypatch.setattr(actor_pool, "FIRST_PAUSE_SECONDS", 0.1)
    with pytest.raises(
        MachineError,
        match=r"workers died 3 times within .* at .*5\.jpg to .*7\.jpg .*too much memory",
    ):
        run(tmp_path, stops=9, actor_class=dying_actor)


def test_a_worker_that_hangs_is_told_of_and_its_images_are_done_by_another(
    tmp_path,
    caplog,
    monkeypatch,
):
    monkeypatch.setattr(actor_pool, "SLOW_SECONDS", 1.0)
    with caplog.at_level(logging.WARNING, "reidray"):
        rows = run(tmp_path, stops=1)
    assert sorted(rows) == list(range(ROWS))
    (stopped,) = [int(path.name) for path in tmp_path.iterdir()]
    who = f"from the worker on {socket.gethostname()} (process {stopped}), which has "
    lines = [record.getMessage() for record in caplog.records]
    messages = [line for line in lines if "jpg to /crops/7.jpg" in line and who in line]
    assert re.search(r"no answer for [1-5] s .*; it is started again after 6 s", messages[0])
    assert "no answer for 6 s" in messages[-1]
    assert "it is started again, 1 of 4 times" in messages[-1]


@pytest.mark.slow
def test_a_worker_that_hangs_every_time_ends_the_job_with_one_line(
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(actor_pool, "MAX_RESTARTS", 1)
    with pytest.raises(
        MachineError, match=r"no answer for 5 s from .*5\.jpg.*started again 1 times"
    ):
        run(tmp_path, stops=9, stall_seconds=5.0)
    for path in tmp_path.iterdir():
        try:
            psutil.Process(int(path.name)).wait(30)  # Ray ends them once nobody needs them
        except psutil.NoSuchProcess:
            continue


@pytest.mark.slow
def test_a_nightly_run_whose_worker_is_stopped_has_the_files_of_a_quiet_one(
    model,
    tmp_path,
    caplog,
):
    from test_nightly_faults import embedders, once, wait_for_no_embedders

    images = draw_images(tmp_path / "images", people=40, variants=30)
    run_with_ray(model, images, tmp_path / "quiet")

    wait_for_no_embedders()

    def working():
        return [each for each in embedders() if "decode_and_embed" in " ".join(each.cmdline())]

    def stop_one(processes):
        processes[0].send_signal(signal.SIGSTOP)

    with once(working, stop_one), caplog.at_level(logging.WARNING, "reidray"):
        summary = run_with_ray(
            model, images, tmp_path / "out", num_workers=2, stall_timeout=20 / 60
        )
    assert summary["embedded"] == 1240
    assert "it is started again, 1 of 4 times" in caplog.text
    assert published(tmp_path / "out") == published(tmp_path / "quiet")
