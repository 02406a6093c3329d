"""Processes that decode give the crops of this process, and end with it."""

import io
import logging
import subprocess
import sys
from itertools import islice
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from reidray.errors import MachineError, UserError
from reidray.inference import decoder_pool
from reidray.inference.decoder_pool import KEPT_BATCHES, MAX_RESTARTS, start_decoders
from reidray.inference.image_batches import ImageSet, decode_batches, plan_batches
from reidray.storage.location import Location

SIZE = (16, 8)


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """Return 20 batches of images, among them broken and missing ones."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(20 * 64 - 10):
        pixels = np.random.default_rng(number).integers(0, 256, (4, 2, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).resize((8, 16)).save(data, "PNG")
        (folder / f"{number:04d}.png").write_bytes(
            b"broken" if number % 100 == 7 else data.getvalue()
        )
    names = tuple(f"{number:04d}.png" for number in range(20 * 64 - 5))
    return plan_batches(ImageSet("gallery", Location(str(folder)), names), np.arange(len(names)))


def children():
    """Return the processes that this one has started, among them those of earlier tests."""
    return set(psutil.Process().children())


def comparable(decoded):
    return (decoded.digests, decoded.positions.tolist(), dict(decoded.bad), decoded.num_retries)


def assert_same(found, expected):
    assert {each.batch.indices[0] for each in found} == {each.batch.indices[0] for each in expected}
    by_batch = {each.batch.indices: each for each in found}
    for each in expected:
        other = by_batch[each.batch.indices]
        assert comparable(other) == comparable(each)
        np.testing.assert_array_equal(other.crops, each.crops)


def copied(decoded):
    return SimpleNamespace(**{**vars(decoded), "crops": decoded.crops.copy()})


def test_processes_decode_what_this_process_decodes(batches):
    digests = [each.digests for each in decode_batches(batches[:3], SIZE, None)]
    known = np.array(sorted({digests[0][3][:16], digests[2][5][:16]}), dtype="S16")
    before = children()
    with start_decoders(batches, SIZE, known, num_processes=2) as decoded:
        found = list(map(copied, decoded))
    assert children() <= before
    expected = list(decode_batches(batches, SIZE, known))
    assert_same(found, expected)
    assert len(expected[0].positions) == 62  # one broken, one known


def test_the_crops_of_a_whole_batch_of_the_network_stay(batches):
    with start_decoders(batches, SIZE, None, num_processes=1) as decoded:
        first = list(islice(decoded, KEPT_BATCHES))
        assert_same(first, list(decode_batches([each.batch for each in first], SIZE, None)))
        rest = list(decoded)
        assert_same(rest, list(decode_batches([each.batch for each in rest], SIZE, None)))


def test_a_process_that_dies_is_replaced(batches, caplog):
    before = children()
    with start_decoders(batches, SIZE, None, num_processes=2) as decoded:
        decoder, _ = children() - before
        decoder.kill()  # before it has done any of its batches
        found = list(map(copied, decoded))
    assert_same(found, list(decode_batches(batches, SIZE, None)))
    (warning,) = (each.getMessage() for each in caplog.records)
    assert "64 images" in warning or "59 images" in warning
    assert warning.endswith("died (SIGKILL); it is started again, 1 of 4 times")


def test_processes_that_die_again_and_again_end_the_job(batches, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    expected = rf"died \(exit status 1\), after {MAX_RESTARTS} others"
    with (
        start_decoders(batches, SIZE, None, num_processes=1) as decoded,
        pytest.raises(MachineError, match=expected) as caught,
    ):
        next(decoded)
    assert "\n" not in str(caught.value)


def test_the_error_of_a_batch_reaches_this_process():
    images = ImageSet("gallery", Location("/nowhere"), ("a.png", "../b.png"))
    with (
        start_decoders(plan_batches(images, np.arange(2)), SIZE, None, num_processes=1) as decoded,
        pytest.raises(UserError, match=r"\.\./b\.png"),
    ):
        next(decoded)


def test_a_slow_disk_is_told_of(batches, monkeypatch, caplog):
    monkeypatch.setattr(decoder_pool, "SLOW_SECONDS", 0.001)
    with start_decoders(batches[:2], SIZE, None, num_processes=1) as decoded:
        assert len(list(decoded)) == 2
    assert "0000.png" in caplog.records[0].getMessage()
    assert "no answer for" in caplog.records[0].getMessage()


def test_processes_that_decode_do_not_import_pytorch():
    program = "import sys, reidray.inference.decoder_pool; print('torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"
