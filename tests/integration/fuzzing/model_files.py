"""A small model directory, its description with odd values, and weights that match their hash."""

import json
from hashlib import sha256

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.models import ModelCard, build_architecture, save_model
from reidray.models.factory import build_network

DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
TOKENS = (
    *(b"null", b"-1", b"1e999", b"9" * 5000, b"[[[[" * 400, b"\\ud800", b"[9999999999]", b"[]"),
    *(b'"F32"', b'"BF16"', b'"F8_E4M3"', b'"I64"', b'"BOOL"', b"[0]", b"[1,1]"),
)
ODD_VALUES = (
    *(None, True, -1, 0, 1, 16, 10**9, 10**30, 1.5, float("nan"), "", "x", "apr", "baseline"),
    *("../../etc/passwd", "\ud800", [], [1], [[]], {}, {"a": 1}, [None]),
    [{"name": "a", "values": ["b", "c"]}],
)


def write_model(folder, name):
    described = {"backbone": "resnet_tiny", "num_people": 3, "feature_size": 16}
    described |= {"schema": PEDESTRIAN_SCHEMA}
    if name != "apr":
        described = {"embedding_size": 8}
    architecture = build_architecture(name, height=32, width=16, **described)
    save_model(
        folder, build_network(architecture), architecture, ModelCard(metric="cosine"), "# Model\n"
    )
    return folder


def odd_description(data, random):
    """The description with another value, or without one, somewhere."""
    description = json.loads(data)
    for _ in range(random.choice((1, 1, 2))):
        part = description
        while isinstance(part, dict | list) and part:
            key = random.choice(list(part) if isinstance(part, dict) else range(len(part)))
            if isinstance(part[key], dict | list) and random.random() < 0.8:
                part = part[key]
            elif random.random() < 0.1:
                del part[key]
                break
            else:
                part[key] = random.choice(ODD_VALUES)
                break
    return json.dumps(description).encode()


def describe_weights(description, weights):
    """The description, made to expect these weights."""
    return json.dumps(json.loads(description) | {"weights_sha256": sha256(weights).hexdigest()})
