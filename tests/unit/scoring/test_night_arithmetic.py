"""Compute what a nightly run takes from costs that are known."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.inference.planning.embedding_timing import EmbeddingCosts
from reidray.inference.planning.measured_costs import FREE, Cost
from reidray.scoring.planning.night_arithmetic import (
    HOUR,
    NightMachines,
    NightSize,
    plan_night,
    plan_to_json,
)
from reidray.scoring.planning.search_timing import SearchCosts

MILLION = 10**6
SIZE = NightSize(
    queries=1000,
    gallery=MILLION,
    missing=MILLION,
    slots=MILLION,
    stored=0,
    embedding_size=512,
    crop_bytes=3 * 256 * 128,
)
ON_CPUS = NightMachines(
    nodes=2, workers=8, on_gpu=False, decoders=8, overlaps_reading=False, search_tasks=8
)
ON_GPUS = NightMachines(
    nodes=2, workers=4, on_gpu=True, decoders=16, overlaps_reading=False, search_tasks=4
)


def cost(milliseconds):
    return Cost(milliseconds / 1e3, 0.8 * milliseconds / 1e3, 1.3 * milliseconds / 1e3)


def embedding(read=1.0, decode=2.0, predict=5.0):
    return EmbeddingCosts(
        read=cost(read),
        decode=cost(decode),
        predict=cost(predict),
        num_images=384,
        num_bad=0,
        bytes_per_image=4000.0,
        peak_bytes=10**9,
        start_seconds=5.0,
    )


def search(compare=1e-6, read=0.0):
    return SearchCosts(cost(compare), cost(read), reads_store=False)


def test_a_worker_on_a_cpu_reads_decodes_and_embeds_one_after_the_other():
    plan = plan_night(SIZE, ON_CPUS, embedding(), search())
    assert plan.worker.seconds == pytest.approx(0.008)
    assert plan.embedding.seconds == pytest.approx(MILLION * 0.008 / 8)
    assert plan.embedding.high == pytest.approx(1.3 * plan.embedding.seconds)
    assert (plan.binds, plan.cpus_per_gpu) == ("model", None)


def test_files_of_an_object_store_are_read_while_others_are_decoded():
    remote = replace(ON_CPUS, overlaps_reading=True)
    plan = plan_night(SIZE, remote, embedding(read=20), search())
    assert plan.worker.seconds == pytest.approx(0.025)
    assert plan.binds == "reading files"


def test_cpus_decode_beside_gpus_and_the_slower_of_both_binds():
    fast = plan_night(SIZE, ON_GPUS, embedding(read=0.1, decode=0.4, predict=0.25), search())
    assert fast.embedding.seconds == pytest.approx(MILLION * 0.25e-3 / 4)
    assert (fast.binds, fast.cpus_per_gpu) == ("model", 2)
    slow = plan_night(SIZE, ON_GPUS, embedding(read=0.1, decode=1.9, predict=0.25), search())
    assert slow.embedding.seconds == pytest.approx(MILLION * 2e-3 / 16)
    assert (slow.binds, slow.cpus_per_gpu, slow.suggested_workers) == ("decoding", 8, 1)


def test_a_batch_that_is_not_full_takes_the_network_as_long_as_a_full_one():
    few = replace(SIZE, missing=1000, slots=2000)
    plan = plan_night(few, ON_CPUS, embedding(), search())
    assert plan.embedding.seconds == pytest.approx((1000 * 0.003 + 2000 * 0.005) / 8)


def test_the_ranking_binds_a_night_of_many_queries_and_of_nothing_new():
    many = replace(SIZE, queries=MILLION)
    plan = plan_night(many, ON_CPUS, embedding(), search(compare=1e-4, read=1e-3))
    read = 62 * MILLION * 1e-6  # once for each block of 16,384 queries
    assert plan.ranking.seconds == pytest.approx((1e12 * 1e-7 + read) / 8)
    assert plan.binds == "ranking"
    nothing = plan_night(replace(SIZE, missing=0, slots=0), ON_CPUS, None, search())
    assert (nothing.binds, nothing.embedding, nothing.suggested_workers) == ("ranking", FREE, 1)
    assert "images_per_second" not in plan_to_json(nothing, 0, 2)


def test_an_expansion_searches_twice_and_a_re_ranking_compares_the_queries_too():
    plain = plan_night(SIZE, ON_CPUS, None, search())
    expanding = replace(SIZE, candidates=10, expands=True)
    expanded = plan_night(expanding, ON_CPUS, None, search(read=0.0))
    compared = plan_night(SIZE, ON_CPUS, None, search(read=0.0)).ranking
    assert expanded.ranking.seconds == pytest.approx(2 * compared.seconds)
    expanded = plan_night(expanding, ON_CPUS, None, search(compare=0.0))
    read = plan_night(SIZE, ON_CPUS, None, search(compare=0.0)).ranking
    assert expanded.ranking.seconds == pytest.approx(3 * read.seconds)  # the candidates too
    reranking = replace(search(), rerank=cost(20.0))
    by_four = plan_night(SIZE, replace(ON_CPUS, rerank_tasks=4), None, reranking)
    assert by_four.ranking.seconds - plain.ranking.seconds == pytest.approx(1000 * 0.02 / 4)
    many = replace(SIZE, queries=MILLION, candidates=100, reranks=True)
    plan = plan_night(many, ON_CPUS, None, search(read=1e-3))
    blocks = -(-MILLION // 2621)  # whose candidates fit into 512 MiB
    read = blocks * 3 * MILLION * 1e-6  # the gallery, the other queries and the candidates
    assert plan.ranking.seconds == pytest.approx((2e12 * 1e-9 + read) / 8)
    shard, queries = 131_072 * 2048, 2621 * 2048
    assert plan.memory_bytes == 4 * (shard + queries + 2**29) + 2**29


def test_votes_and_distractor_scores_compare_the_gallery_with_itself_once_in_blocks():
    costs, machines = search(read=1e-3), replace(ON_CPUS, gallery_tasks=16)
    plain = plan_night(SIZE, machines, None, costs)
    itself = plan_night(replace(SIZE, searches_itself=True), machines, None, costs)
    seconds = MILLION * (MILLION * 1e-9 + 62 * 1e-6) / 16
    assert itself.ranking.seconds - plain.ranking.seconds == pytest.approx(seconds)
    assert itself.memory_bytes == 8 * (131_072 * 2048 + 16_384 * 2048 + 512 * 2**20)


def test_memory_holds_the_workers_or_the_searches_and_the_keys_of_the_store():
    stored = replace(SIZE, stored=100 * MILLION)
    plan = plan_night(stored, ON_CPUS, embedding(), search())
    shard, queries = 131_072 * 2048, 1000 * 2048
    searching = 4 * (shard + queries + 512 * 2**20)
    assert plan.memory_bytes == 16 * 100 * MILLION + max(4 * 10**9, searching)
    on_gpus = plan_night(SIZE, ON_GPUS, embedding(), search())
    assert on_gpus.memory_bytes == (2 + 8) * 10**9 + 8 * 8 * 64 * SIZE.crop_bytes


@given(
    missing=st.integers(1, 10**9),
    queries=st.integers(1, 10**6),
    milliseconds=st.floats(0.01, 100),
    on_gpu=st.booleans(),
)
def test_suggested_workers_end_within_an_hour_or_there_is_a_reason(
    missing, queries, milliseconds, on_gpu
):
    size = replace(SIZE, missing=missing, slots=-(-missing // 64) * 64, queries=queries)
    machines = ON_GPUS if on_gpu else ON_CPUS
    costs = embedding(predict=milliseconds)
    plan = plan_night(size, machines, costs, search())
    suggested = plan.suggested_workers
    assert suggested >= 1
    if plan.reason == "the fewest that end within an hour":
        needed = plan.worker.seconds * missing
        assert needed / suggested + plan.ranking.seconds <= HOUR * (1 + 1e-9)
        fewer = suggested - 1
        assert not fewer or needed / fewer + plan.ranking.seconds > HOUR * (1 - 1e-9)
    if on_gpu:
        assert suggested * plan.cpus_per_gpu <= machines.decoders or suggested == 1
    described = plan_to_json(plan, missing, machines.nodes)
    assert json.loads(json.dumps(described)) == described
    assert described["total"]["low"] <= described["total"]["minutes"] <= described["total"]["high"]


@given(st.lists(st.tuples(st.floats(0.001, 100), st.integers(1, 1000)), min_size=1, max_size=20))
def test_the_mean_of_measurements_weighs_them_by_their_units(measurements):
    found = Cost.of(measurements)
    total, units = (sum(column) for column in zip(*measurements, strict=True))
    assert found.seconds * units == pytest.approx(total)
    assert found.low <= found.high
