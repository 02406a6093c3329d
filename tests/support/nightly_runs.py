"""Save a small model, draw images of people in their own colours, and score them."""

import subprocess

import numpy as np
import torch
from PIL import Image

from reidray.config.scoring import ScoreConfig
from reidray.models import ModelCard, save_model
from reidray.models.architecture import Architecture, field_names
from reidray.models.factory import build_network
from reidray.scoring.nightly_run import run_nightly
from support.forked_scripts import script_command
from support.paths import ROOT

REPEATED_FILES = ("reid_test.txt", "classification_test.csv", "quarantine.csv")


def make_model(folder, name, schema):
    torch.manual_seed(0)
    sizes = {"feature_size": 16, "height": 32, "width": 16, "num_people": 3, "schema": schema}
    values = {key: value for key, value in sizes.items() if key in field_names(name)}
    architecture = Architecture.from_values(name, values)
    network = build_network(architecture)
    save_model(folder, network, architecture, ModelCard(metric="cosine"), "# Model\n")
    return folder


def draw(path, person, variant):
    """Draw an image of a person's colours with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(person).integers(0, 200, (4, 1, 3))
    noise = np.random.default_rng([person, variant]).integers(0, 30, (4, 16, 3))
    pixels = np.repeat((colours + noise).astype(np.uint8), 8, axis=0)
    Image.fromarray(pixels).save(path)


def draw_images(root, people, variants):
    """Draw a query of each person, and one gallery image of each person for each variant."""
    for person in range(people):
        draw(root / "queries" / f"{person:06d}.jpg", person, 0)
        for variant in range(1, variants + 1):
            draw(root / "gallery" / f"day{variant}" / f"{person:06d}.png", person, variant)
    return root


def run_with_ray(model, images, output, **changes):
    settings = {"model": str(model), "queries": str(images / "queries")}
    settings |= {"gallery": str(images / "gallery"), "output": str(output), "num_workers": 1}
    return run_nightly(ScoreConfig(**(settings | changes)))


def run_without_ray(model, images, output, **changes):
    settings = {"model": str(model), "queries": str(images / "queries")}
    settings |= {"gallery": str(images / "gallery"), "output": str(output)}
    return run_nightly(ScoreConfig(**(settings | changes)), Unreachable(), starts_ray=True)


def published(output):
    return {name: (output / name).read_bytes() for name in REPEATED_FILES}


def run_job(*arguments):
    command = script_command(ROOT / "jobs" / "score_nightly.py", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


class Unreachable:
    """Fail when the session is entered."""

    def __enter__(self):
        raise AssertionError("Ray was started")

    def __exit__(self, *details):
        return None
