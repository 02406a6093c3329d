"""Measure how many JPEG files the cores of this machine read, decode and resize in a second.

Usage: python decode_limit.py FOLDER HEIGHT WIDTH SECONDS. Prints one number. It runs as a process
of its own, without PyTorch, so that its children start at once.
"""

import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from reidray.data.reading.image_folders import list_images
from reidray.inference.image_batches import ImageSet, decode_batches, plan_batches
from reidray.storage.location import Location


def decode_for(folder, size, seconds):
    """Return the images that one process decodes in a second."""
    location = Location(folder)
    images = ImageSet("images", location, tuple(list_images(location)))
    batches = plan_batches(images, np.random.permutation(len(images.paths)))
    done, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds or not done:
        for decoded in decode_batches(batches, size, None):
            done += len(decoded.positions)
            if (taken := time.perf_counter() - start) >= seconds:
                break
    return done / taken


def main():
    """Decode in as many processes as there are cores."""
    folder, size, seconds = sys.argv[1], (int(sys.argv[2]), int(sys.argv[3])), float(sys.argv[4])
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        paces = pool.starmap(decode_for, [(folder, size, seconds)] * cores, chunksize=1)
    print(sum(paces))


if __name__ == "__main__":
    main()
