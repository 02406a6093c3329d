"""List the readers of files, and make damaged files for each.

`python targets.py NAME ROUNDS` damages and reads in this process, and tells what came of it.
"""

import faulthandler
import json
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import image_files
import model_files
import table_files
from mutations import mutate, with_right_checksums

from reidray.data.images.decoding import decode_image
from reidray.data.images.masks import decode_mask
from reidray.data.images.pil_images import ImageDecodeError
from reidray.data.layouts import read_manifest
from reidray.data.reading.annotations import read_annotations
from reidray.errors import UserError
from reidray.evaluation.feature_files import read_features
from reidray.evaluation.ground_truth import parse_ground_truth, ranking_ground_truth
from reidray.evaluation.ranking_parser import parse_candidates
from reidray.models import load_model
from reidray.scoring.ranking_file import collect_rows

SECONDS = 30
"""What reads one small file for longer hangs."""

PICTURES = tuple(image_files.SEEDS)
MASKS = tuple(f"mask {kind}" for kind in ("png", "gif", "tiff"))
NAMES = (*PICTURES, *MASKS, *table_files.SEEDS, model_files.DESCRIPTION, model_files.WEIGHTS)


@dataclass(frozen=True)
class Target:
    """A reader and how the files are made that it is tried with."""

    damage: Callable[[Random], bytes]
    read: Callable[[bytes], object]
    refuses: type[Exception] = UserError


def target(name, folder):
    """The target of a name, which may write into the folder."""
    if name in table_files.SEEDS:
        return _table(name, folder)
    if name in (model_files.DESCRIPTION, model_files.WEIGHTS):
        return _model(name, folder)
    return _picture(name)


def try_out(name, folder, rounds):
    """Count the damaged files that are read and those refused; anything else is an error."""
    tried, outcomes = target(name, folder), Counter()
    for number in range(rounds):
        data = tried.damage(Random(f"{name} {number}"))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            tried.read(data)
            outcomes["read"] += 1
        except tried.refuses as error:
            str(error).encode()  # it ends up in files
            outcomes["refused"] += 1
        except BaseException as error:
            error.add_note(f"round {number} of {name}: {data[:500]!r}")
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
    return outcomes


def _picture(name):
    kind = name.removeprefix("mask ")
    seeds, tokens = image_files.SEEDS[kind], image_files.TOKENS[kind]
    every_seed = [seed for seeds in image_files.SEEDS.values() for seed in seeds]

    def damage(random):
        others = random.choice((seeds, seeds, every_seed))
        data = mutate(random.choice(seeds), others, tokens, random)
        return with_right_checksums(data) if random.random() < 0.8 else data

    def read(data):
        size = (None, (16, 8), (64, 32))[len(data) % 3]
        if kind == name:
            pixels = decode_image(data, size)
            assert pixels.shape == (*(size or pixels.shape[:2]), 3)
            return
        assert decode_mask(data, (48, 24), size).max() <= 1

    return Target(damage, read, ImageDecodeError)


def _table(name, folder):
    seeds = table_files.SEEDS[name]
    file = folder / name
    for image in table_files.IMAGES:
        (folder / image).parent.mkdir(exist_ok=True)
        (folder / image).touch()
    readers = {
        "annotations.csv": lambda: read_annotations(file.read_bytes(), name),
        "ranking.txt": lambda: [
            collect_rows(form.rows, name) for form in parse_candidates(file.read_bytes(), name)
        ],
        "truth.json": lambda: [
            ranking_ground_truth(form) for form in parse_ground_truth(file, file.read_bytes())
        ],
        "features.npz": lambda: read_features(str(file), str(file)),
        "features.parquet": lambda: read_features(str(file), str(file)),
    }

    def damage(random):
        if name == "features.npz" and random.random() < 0.5:
            return table_files.odd_arrays(random)
        return mutate(random.choice(seeds), seeds, table_files.TOKENS, random)

    def read(data):
        file.write_bytes(data)
        if name in readers:
            readers[name]()
            return
        manifest = read_manifest(str(file))
        assert manifest.table.num_rows
        assert len(manifest.fingerprint) == 16

    return Target(damage, read)


def _model(name, folder):
    network = "apr" if name == model_files.DESCRIPTION else "vgg_triplet_rgb"
    model_files.write_model(folder, network)
    description = (folder / model_files.DESCRIPTION).read_bytes()
    whole = (folder / name).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")

    def damage(random):
        if name == model_files.DESCRIPTION and random.random() < 0.7:
            return model_files.odd_description(whole, random)
        if name == model_files.WEIGHTS and random.random() < 0.7:
            said = mutate(whole[8:header], (whole[8:header],), model_files.TOKENS, random)
            return len(said).to_bytes(8, "little") + said + whole[header:]
        return mutate(whole, (whole,), model_files.TOKENS, random)

    def read(data):
        (folder / name).write_bytes(data)
        if name == model_files.WEIGHTS:
            expected = model_files.describe_weights(description, data)
            (folder / model_files.DESCRIPTION).write_text(expected)
        load_model(folder)

    return Target(damage, read)


if __name__ == "__main__":
    faulthandler.enable()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as made:
        told = try_out(sys.argv[1], Path(made), int(sys.argv[2]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({**told, "megabytes": grown // 1024}))
