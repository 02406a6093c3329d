"""Time files as a worker reads and decodes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.training_folders import save_image

from reidray.data.images.decoding import decode_files
from reidray.inference.planning.file_timing import draw_sample, time_files
from reidray.storage.location import Location


def test_timed_crops_are_those_that_a_run_decodes_and_bad_files_count(tmp_path):
    for level in range(5):
        save_image(tmp_path / f"{level}.png", level)
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [*(f"{level}.png" for level in range(5)), "broken.png", "missing.png"]
    timing, decoded = time_files(Location(str(tmp_path)), paths, (16, 8))
    expected = decode_files(Location(str(tmp_path)), paths, (16, 8))
    assert (decoded.crops == expected.crops).all()
    assert decoded.bad == expected.bad
    assert decoded.contents == expected.contents
    assert (timing.num_images, timing.num_bad) == (7, 2)
    assert timing.num_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert min(timing.read_seconds, timing.decode_seconds) > 0


class FailingDisk:
    """Fail as a disk with a broken sector does."""

    is_remote = False

    def read_bytes(self, *_):
        raise OSError(5, "Input/output error")


def test_a_disk_that_fails_ends_the_timing():
    with pytest.raises(OSError, match="Input/output"):
        time_files(FailingDisk(), ["a.png"], (16, 8))


@given(st.integers(0, 10**12), st.integers(1, 400))
def test_a_sample_is_the_same_each_time_and_holds_nothing_twice(count, size):
    found = draw_sample(count, size)
    assert len(found) == len(np.unique(found)) == min(count, size)
    assert (found == draw_sample(count, size)).all()
    assert ((found >= 0) & (found < count)).all()
