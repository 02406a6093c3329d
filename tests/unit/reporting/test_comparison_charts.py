import io
import re

import numpy as np
import pytest
from PIL import Image

from reidray.reporting.charts.cmc import cmc_comparison_chart
from reidray.reporting.charts.confusion_matrix import confusion_maps
from reidray.reporting.charts.count_charts import count_bars
from reidray.reporting.charts.embedding_maps import LabelledMap, class_maps, embedding_maps
from reidray.reporting.charts.explained_variance import components_for, variance_chart
from reidray.reporting.charts.grouped_bars import grouped_bars
from reidray.reporting.charts.learning_curves import run_comparison_charts
from reidray.reporting.charts.person_accuracy import PersonPanel, person_chart

RISING = np.array([0.5, 0.85, 0.9, 0.96, 0.98])


@pytest.mark.parametrize(
    ("share", "count"), [(0.4, 1), (0.5, 1), (0.9, 3), (0.95, 4), (0.97, 5), (0.99, None)]
)
def test_the_fewest_components_that_reach_a_share(share, count):
    assert components_for(RISING, share) == count


def decode_png(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_same_variances_give_the_same_bytes():
    rising = {"PCA": RISING, "LDA": RISING[:3]}
    assert variance_chart(rising) == variance_chart(rising)
    steep = {"PCA": np.array([0.9, 0.95, 0.99, 0.999, 1.0]), "LDA": RISING[:3]}
    assert (decode_png(variance_chart(steep)) != decode_png(variance_chart(rising))).any()


def test_curves_and_maps_have_room_for_any_number_of_methods():
    rng = np.random.default_rng(0)
    person_ids = np.repeat(np.arange(12), 4)
    for methods in (1, 5):
        names = [f"$method_{number}" for number in range(methods)]
        curves = {name: np.linspace(0.1, 0.9, 301).tolist() for name in names}
        maps = {name: rng.normal(size=(48, 2)) for name in names}
        cells = {name: np.eye(90) for name in names}
        for data in (
            cmc_comparison_chart(curves),
            embedding_maps(maps, person_ids),
            confusion_maps(cells),
        ):
            pixels = decode_png(data)
            assert (pixels[[0, -1]] == 255).all()
            assert (pixels < 200).any()


def test_maps_of_37_classes_name_all_and_colour_each_alike_in_every_map():
    rng = np.random.default_rng(0)
    classes = [f"american_pit_bull_terrier_{number}" for number in range(37)]
    labels = np.repeat(np.arange(37), 3)
    maps = {
        "all": LabelledMap(rng.normal(size=(111, 2)), labels),
        "without the first": LabelledMap(rng.normal(size=(108, 2)), labels[3:]),
    }
    pixels = decode_png(class_maps(maps, classes))
    assert (pixels[[0, -1]] == 255).all()
    few = decode_png(class_maps(maps, ["a"] * 37))
    assert len(few) < len(pixels)


@pytest.mark.parametrize(("groups", "networks"), [(3, 1), (37, 7)])
def test_every_network_has_a_bar_in_every_group(groups, networks):
    names = [f"breed_{number}" for number in range(groups)]
    shares = {f"network_{number}": [0.5] * groups for number in range(networks)}
    svg = str(grouped_bars("F1", names, shares, "F1", "f1").svg)
    assert svg.count("clip-path") >= groups * networks
    assert all(f">{name}<" in svg for name in (*names, *shares))
    assert len(svg) < 150_000


@pytest.mark.parametrize("most", [9, 1_840, 19_999, 123_456])
def test_the_numbers_below_bars_of_counts_do_not_touch(most):
    svg = str(count_bars("Images", ["camera 1", "camera 2"], {"train": [most, 1]}, "cameras").svg)
    labels = re.findall(r'<text[^>]* x="([\d.]+)"[^>]*>(\d+)</text>', svg)
    places = [float(x) for x, _ in labels]
    assert len(labels) >= 3
    assert min(np.diff(places)) > 6.4 * len(labels[-1][1]) + 6  # points of a digit, and of a space


def test_a_dot_grows_with_the_people_that_share_its_place():
    names, few, many = ("LDA", "$net_1"), np.array([[0.5], [0.75]]), np.full((2, 40), 0.5)
    pixels = [
        decode_png(person_chart(names, [PersonPanel("Share", values, is_share=True)]))
        for values in (few, many)
    ]
    blue = [(image[..., 2] > image[..., 0].astype(int) + 60).sum() for image in pixels]
    assert 20 * blue[0] < blue[1] < 80 * blue[0]
    ranks = PersonPanel("Rank", np.array([[1.0, 3], [301, 1]]), is_share=False)
    assert (decode_png(person_chart(names, [ranks, ranks])) < 200).any()


def test_markers_of_trainings_of_one_epoch_lie_below_the_upper_edge():
    runs = {name: [{"epoch": 1, "loss": loss}] for name, loss in (("a", 1.95), ("b", 2.4))}
    svg = str(run_comparison_charts(runs)[0].svg)
    spines = re.findall(r'd="M ([\d.]+) [\d.]+ ?\s*L \1 ([\d.]+)', svg)
    markers = [float(y) for y in re.findall(r'<use [^>]*\by="([\d.]+)"', svg)]
    upper_edge = min(float(y) for _, y in spines)
    assert min(markers[:2]) > upper_edge + 4  # the legend has the others
