"""Measure the seconds of the stages of a run, and its throughput."""

import time
from collections.abc import Sequence

from reidray.inference.image_batches import BatchPredictions
from reidray.inference.predictions import NO_TIME, LoopTiming

MIN_STEADY_SECONDS = 0.1
"""Least seconds over which a steady pace is measured; images within less come together."""


class StageTimer:
    """Measure the seconds of stages that follow each other.

    Attributes:
        seconds: seconds of each stage that has ended, in the order of the stages.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end_stage(self, stage: str) -> None:
        """Record that a stage ends, and that the next one begins."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now


class Throughput:
    """Measure the images per second of an embedding, and how long its network waited for them."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._num_images = [0]
        self._seconds = [0.0]
        self._timing = NO_TIME

    def add(self, num_images: int, timing: LoopTiming) -> None:
        """Count images that are done now, and the time of their forward passes."""
        self._num_images.append(self._num_images[-1] + num_images)
        self._seconds.append(time.perf_counter() - self._start)
        self._timing += timing

    def add_results(self, results: Sequence[BatchPredictions]) -> None:
        """Count the images of some batches, which are done now."""
        timing = sum((result.timing for result in results), NO_TIME)
        self.add(sum(len(result.batch.paths) for result in results), timing)

    def summary(self) -> dict[str, float]:
        """Return the images per second of all the time, and of the second half of the counts.

        In the second half every process has started. `input_wait` is the share of its time in which
        the network waited for decoded images. Nothing is returned before the first `add`, and no
        steady pace where that half takes less than `MIN_STEADY_SECONDS`.
        """
        if len(self._num_images) == 1:
            return {}
        rates = {"images_per_second": round(self._num_images[-1] / self._seconds[-1], 1)}
        half = len(self._num_images) // 2
        seconds = self._seconds[-1] - self._seconds[half]
        if seconds >= MIN_STEADY_SECONDS:
            images = self._num_images[-1] - self._num_images[half]
            rates["images_per_second_steady"] = round(images / seconds, 1)
        return rates | {"input_wait": round(self._timing.input_wait, 3)}
