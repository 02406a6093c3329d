"""Processes that decode end with the process that started them, however it ends."""

import signal
import subprocess
import sys

import psutil
import pytest
from support.tiny_images import encode_image, two_coloured_image


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(tmp_path, ending):
    folder, names = str(tmp_path), tuple(f"{number:02d}.png" for number in range(64))
    for name in names:
        (tmp_path / name).write_bytes(encode_image(two_coloured_image(8, 16)))
    # A shell that starts the tests in the background lets them ignore SIGINT.
    program = f"""
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from reidray.inference.decoder_pool import start_decoders
from reidray.inference.image_batches import ImageBatch
from reidray.storage.location import Location
batch = ImageBatch("gallery", Location({folder!r}), tuple(range(64)), {names!r})
with start_decoders([batch, batch], (16, 8), None, num_processes=2) as decoded:
    next(decoded)
    print("decoding", flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout.readline() == b"decoding\n"
    decoders = psutil.Process(parent.pid).children()
    assert len(decoders) == 2
    parent.send_signal(ending)
    parent.wait(timeout=20)
    _, alive = psutil.wait_procs(decoders, timeout=20)
    assert alive == []
