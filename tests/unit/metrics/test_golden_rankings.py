"""Metrics equal those of published evaluators on the same features."""

import json

import numpy as np
import pytest
from support.paths import GOLDEN

from reidray.metrics import evaluate
from reidray.retrieval import Reranking, rerank, top_k

SETS = ("osnet_market", "made_junk_distractors_orphans", "made_short_gallery", "made_ties")

pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the golden feature sets are not beside the checkout"
)


def load(name):
    arrays = dict(np.load(GOLDEN / f"{name}.npz"))
    if arrays["query"].dtype == np.float16:
        for side in ("query", "gallery"):
            features = arrays[side].astype(np.float32)
            arrays[side] = features / np.linalg.norm(features, axis=1, keepdims=True)
    return arrays, json.loads((GOLDEN / "expected.json").read_text())[name]


@pytest.mark.parametrize("name", SETS)
def test_market1501_metrics_equal_those_of_the_compiled_evaluator(name):
    arrays, expected = load(name)
    expected = expected["market1501"]
    found = evaluate(**arrays)
    assert found.mean_ap == pytest.approx(expected["mean_ap"], abs=1e-6)
    assert found.mean_inp == pytest.approx(expected["mean_inp"], abs=1e-6)
    for rank, share in expected["cmc"].items():
        assert found.cmc[int(rank) - 1] == pytest.approx(share, abs=1e-6)
    assert found.num_valid_queries == expected["num_valid_queries"]


@pytest.mark.parametrize("name", SETS[:3])
def test_trapezoid_rule_and_zero_for_unmatched_give_the_metrics_of_layumi(name):
    arrays, expected = load(name)
    expected = expected["layumi_trapezoid"]
    skipped = evaluate(**arrays, ap_rule="trapezoid")
    counted = evaluate(**arrays, ap_rule="trapezoid", unmatched="zero")
    assert skipped.mean_ap == pytest.approx(expected["mean_ap"], abs=1e-6)
    assert counted.mean_ap == pytest.approx(expected["mean_ap_over_all_queries"], abs=1e-6)


def test_curve_of_a_gallery_shorter_than_max_rank_stays_at_its_last_value():
    arrays, _ = load("made_short_gallery")
    found = evaluate(**arrays, max_rank=50)
    assert found.cmc.shape == (50,)
    assert (found.cmc[37:] == 1.0).all()


def test_ties_go_to_the_lower_gallery_index():
    arrays, expected = load("made_ties")
    _, indices = top_k(arrays["query"], arrays["gallery"], 10)
    assert indices[0].tolist() == expected["top10_of_first_query"]


def test_half_precision_features_rank_as_their_float32_values():
    arrays = dict(np.load(GOLDEN / "osnet_market.npz"))
    gallery = arrays["gallery"][:800]
    half = top_k(arrays["query"], gallery, 20, metric="cosine")
    full = top_k(arrays["query"].astype("f4"), gallery.astype("f4"), 20, metric="cosine")
    assert (half[0] == full[0]).all()
    assert (half[1] == full[1]).all()


def reranked(name):
    arrays, expected = load(name)
    return [(arrays, row) for row in expected.get("rerank", [])]


@pytest.mark.parametrize("name", SETS[:3])
def test_reranked_metrics_equal_those_of_the_reference_code(name):
    for number, (arrays, expected) in enumerate(reranked(name)):
        settings = Reranking(expected["k1"], expected["k2"], expected["lambda_value"])
        found = evaluate(**arrays, reranking=settings)
        assert found.mean_ap == pytest.approx(expected["mean_ap"], abs=1e-5)
        assert found.mean_inp == pytest.approx(expected["mean_inp"], abs=1e-5)
        for rank, share in expected["cmc"].items():
            assert found.cmc[int(rank) - 1] == pytest.approx(share, abs=1e-5)
        if number:
            continue
        kept = np.flatnonzero(arrays["gallery_ids"] != -1)
        _, indices = rerank(
            arrays["query"][:],
            arrays["gallery"][kept],
            5,
            k1=settings.k1,
            k2=settings.k2,
            lambda_value=settings.lambda_value,
        )
        assert kept[indices[0]].tolist() == expected["top5_of_first_query"]
