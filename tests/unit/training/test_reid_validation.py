import numpy as np
import pytest
import torch
from support.labels import make_labels

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.training.tasks.reid.validation import evaluate_embeddings


def test_subgroup_metrics_add_up_to_the_metrics_of_all():
    people = np.repeat(np.arange(1, 13), 4)
    gender = PEDESTRIAN_SCHEMA.names.index("gender")
    codes = np.zeros((48, len(PEDESTRIAN_SCHEMA.names)), np.int8)
    codes[:, gender] = people % 2
    truth = make_labels(people, np.tile([0, 0, 1, 1], 12), codes, PEDESTRIAN_SCHEMA)
    random = np.random.default_rng(0)
    features = random.normal(size=(13, 8))[people] + 0.9 * random.normal(size=(48, 8))
    metrics = evaluate_embeddings(
        torch.from_numpy(features.astype(np.float32)),
        codes.astype(np.int64),
        truth,
        majority=np.zeros(codes.shape[1], np.int64),
        metric="cosine",
    )
    groups = {row["group"]: row for row in metrics["groups"] if row["group"].startswith("gender")}
    assert sum(row["queries"] for row in groups.values()) == 24
    assert 0 < metrics["rank1"] < 1
    for name in ("rank1", "mean_ap"):
        mean = sum(row[name] * row["queries"] for row in groups.values()) / 24
        assert mean == pytest.approx(metrics[name])
    assert metrics["attribute_accuracy"] == 1
