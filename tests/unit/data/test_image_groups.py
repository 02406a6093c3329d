"""Images are divided into the groups that a task decodes."""

from pathlib import Path

import numpy as np
from support.gray_images import image_files


def test_groups_of_images_are_divided_and_hold_each_image_once():
    people = np.random.default_rng(0).permutation(np.repeat([5, -3, 7, 9], [1, 600, 256, 257]))
    files = image_files(Path("anywhere"), groups=people)
    groups = files.split_into_groups().to_pylist()
    assert sorted(map(len, groups)) == [1, 1, 88, 256, 256, 256, 256]
    assert sorted(index for group in groups for index in group) == list(range(len(people)))
    assert all(len(set(people[group])) == 1 for group in groups)
    assert len(image_files(Path("anywhere"), groups=people[:0]).split_into_groups()) == 0
