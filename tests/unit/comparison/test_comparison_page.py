"""The page of a comparison, without Ray."""

import json
import re

import numpy as np
import pytest
from support.comparisons import compare_in_memory, draw_people

from reidray.comparison.method_evaluation import choose_pair, rank_people
from reidray.comparison.report_builder import build_report
from reidray.comparison.report_samples import largest_wins
from reidray.reporting.comparison_report import render_comparison_report

SECTIONS = (
    "Cumulative match curves",
    "person by person",
    "People that the nearest neighbours confuse",
    "Images that look mislabelled",
    "Explained variance",
    "Data",
)
SECTIONS_OF_IMAGES = (
    "Triplets",
    "Reconstructions from principal components",
    "Variability within a person",
    "Images that look poor",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_people(tmp_path_factory.mktemp("people"))


def by_parity(right_parity):
    """Return a method that knows people of one parity and takes others for the next person."""

    def embed(labels):
        people = labels.person_ids
        places = np.where(people % 2 == right_parity, people, people + 1 - 2 * (people % 2 == 0))
        is_query = [name.startswith("Testing/Probe") for name in labels.names]
        return np.where(is_query, places, people)[:, None] * 10.0

    return embed


@pytest.fixture(scope="module")
def comparison(root):
    return compare_in_memory(root, {"even": by_parity(0), "odd": by_parity(1)})


def test_the_page_shows_every_figure_and_says_that_it_shows_people(comparison):
    report = build_report(comparison)
    sets = ["training", "query", "gallery", "val query", "val gallery"]
    assert [row.name for row in report.counts.people] == sets
    page = render_comparison_report(report)
    for title in (*SECTIONS, *SECTIONS_OF_IMAGES):
        assert f"{title}</h2>" in page
    assert "This page shows images of people" in page
    assert "data:image/jpeg" in page
    assert "Variants of PCA" not in page


def test_without_images_the_page_holds_no_image_of_the_data(root):
    comparison = compare_in_memory(root, {"even": by_parity(0)}, no_images=True, val_fraction=0)
    report = build_report(comparison)
    assert [row.name for row in report.counts.people] == ["training", "query", "gallery"]
    page = render_comparison_report(report)
    assert "The baselines have learnt from all training people" in page
    assert "alidation" not in re.sub("<details.*?</details>", "", page, flags=re.DOTALL)
    assert "data:image/jpeg" not in page
    assert "This page shows images of people" not in page
    for title in SECTIONS:
        assert f"{title}</h2>" in page
    for title in SECTIONS_OF_IMAGES:
        assert f"{title}</h2>" not in page


def test_the_record_holds_all_ranks_and_both_variances(comparison):
    record = json.loads(json.dumps(comparison.details()))
    assert [len(curve) for curve in record["cmc"].values()] == [12] * 4
    assert {curve[-1] for curve in record["cmc"].values()} == {1}
    assert set(record["cumulative_variance"]) == {"PCA", "LDA"}
    people = record["train"]["people"]
    assert len(record["cumulative_variance"]["LDA"]) == people - 1


def test_each_of_two_methods_shows_its_wins(comparison):
    ranks = rank_people(comparison.metrics[2:], comparison.data)
    wins = largest_wins(comparison.data, ranks)
    won = {method: [win.person for win in wins if win.method == method] for method in (0, 1)}
    assert [len(people) for people in won.values()] == [4, 4]
    assert {person % 2 for person in won[0]} == {0}
    assert {person % 2 for person in won[1]} == {1}


def test_the_pair_is_the_best_baseline_and_the_best_model(comparison):
    names = [comparison.metrics[index].name for index in choose_pair(comparison.metrics)]
    assert names[0] in {"PCA 95%", "LDA"} or names[1] in {"PCA 95%", "LDA"}
    assert {"even", "odd"} & set(names)
    baselines = comparison.metrics[:2]
    assert set(choose_pair(baselines)) == {0, 1}
