"""Time the reading and the decoding of a sample of the images of a training."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from reidray.data.images.decoding import ImageSource
from reidray.data.ingest.image_files import ImageFiles
from reidray.errors import UserError
from reidray.inference.distributed.task_runner import TaskRunner
from reidray.inference.planning.file_timing import (
    FileTiming,
    draw_sample,
    time_files,
    until_time_is_up,
)

IMAGES_PER_TASK = 2048
"""Images that a task times at most."""

GROUP_IMAGES = 32
"""Images of one measurement."""

Group: TypeAlias = "tuple[list[str], list[str | None] | None]"
"""The paths of some images, and of their masks where they are decoded too."""


def time_sample(runner: TaskRunner, files: ImageFiles, num_tasks: int) -> list[FileTiming]:
    """Return the times of groups of images, drawn from all of them.

    Args:
        runner: runs a call for each task.
        files: the images.
        num_tasks: number of tasks at the same time.

    Raises:
        UserError: none of the images decodes.
    """
    chosen = draw_sample(len(files.paths), num_tasks * IMAGES_PER_TASK)
    paths = files.paths.take(chosen)
    masks = files.mask_paths(chosen)
    order = np.random.default_rng(0).permutation(-(-len(paths) // GROUP_IMAGES)) * GROUP_IMAGES
    groups: list[Group] = [
        (
            paths[start : start + GROUP_IMAGES],
            None if masks is None else masks[start : start + GROUP_IMAGES],
        )
        for start in order.tolist()
    ]
    shares = [share for first in range(num_tasks) if (share := groups[first::num_tasks])]
    found = runner.run(time_groups, shares, files.location, files.size)
    timings = [each for of_task in found for each in of_task]
    if all(each.num_bad == each.num_images for each in timings):
        raise UserError(
            f"none of {len(paths)} images that were timed decodes, as {paths[0]}: mend or remove "
            "them"
        )
    return timings


def time_groups(
    groups: Sequence[Group], location: ImageSource, size: tuple[int, int]
) -> list[FileTiming]:
    """Return the times of the first of some groups of images."""
    return [
        time_files(location, paths, size, masks)[0] for paths, masks in until_time_is_up(groups)
    ]
