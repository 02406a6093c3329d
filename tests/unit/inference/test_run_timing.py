"""Test the pace of a nightly run that its summary states."""

import time
from types import SimpleNamespace

from reidray.inference.predictions import NO_TIME
from reidray.inference.runs.run_timing import Throughput


def batch_of(images):
    return SimpleNamespace(batch=SimpleNamespace(paths=["x"] * images), timing=NO_TIME)


def test_images_that_come_together_give_no_steady_pace():
    throughput = Throughput()
    assert throughput.summary() == {}
    time.sleep(0.05)
    for _ in range(4):
        throughput.add_results([batch_of(32)])
    assert set(throughput.summary()) == {"images_per_second", "input_wait"}
    assert throughput.summary()["images_per_second"] < 128 / 0.05


def test_a_steady_pace_leaves_out_the_start():
    throughput = Throughput()
    time.sleep(0.3)
    for _ in range(4):
        time.sleep(0.06)
        throughput.add_results([batch_of(32), batch_of(32)])
    rates = throughput.summary()
    assert rates["images_per_second"] < 256 / 0.54
    assert rates["images_per_second_steady"] <= 128 / 0.12
