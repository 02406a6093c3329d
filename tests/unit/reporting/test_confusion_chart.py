import re
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

from reidray.reporting.charts.confusion_matrix import confusion_chart

TEXT, PATH, IMAGE = (f"{{http://www.w3.org/2000/svg}}{tag}" for tag in ("text", "path", "image"))


def drawn(confusion, classes):
    chart = confusion_chart(np.array(confusion), classes, "Test images", "class-test")
    return chart, ElementTree.fromstring(str(chart.svg))


def words(picture):
    return Counter("".join(text.itertext()).strip() for text in picture.iter(TEXT))


def shades(picture):
    """Count the cells of each colour."""
    cells = Counter()
    for path in picture.iter(PATH):
        fill = re.match(r"fill: (#\w+); stroke: #fff", path.get("style", ""))
        if fill and fill[1] != "#ffffff":
            cells[fill[1]] += path.get("d").count("M")
    return cells


@pytest.mark.parametrize("count", [1, 3, 9, 37])
def test_the_chart_labels_every_class_twice_and_every_count_above_0(count):
    confusion = np.zeros((count, count), np.int64)
    confusion[np.diag_indices(count)] = 1_000 + np.arange(count)
    confusion[0, -1] += 7
    names = [f"breed_{number}" for number in range(count)]
    chart, picture = drawn(confusion, names)
    written = words(picture)
    assert all(written[name] == 2 for name in names)
    counts = Counter(f"{images:,}" for images in confusion[confusion > 0].tolist())
    assert counts == {word: times for word, times in written.items() if word in counts}
    assert "0" not in written
    assert chart.wide == (count > 8)
    assert not list(picture.iter(IMAGE))


def test_cells_are_shaded_by_their_share_of_the_row():
    _, picture = drawn([[10, 0, 10], [0, 3, 0], [0, 900, 900]], ["a", "b", "c"])
    assert sorted(shades(picture).values()) == [1, 4]


def test_a_class_without_images_leaves_its_row_empty():
    _, picture = drawn([[2, 0], [0, 0]], ["a", "b"])
    assert sum(shades(picture).values()) == 1
    _, nothing = drawn([[0, 0], [0, 0]], ["<a> & b", "$\\frac$"])
    assert not shades(nothing)
    assert words(nothing)["<a> & b"] == words(nothing)["$\\frac$"] == 2


def test_the_chart_of_37_classes_is_small_enough_for_a_page_of_many():
    confusion = np.random.default_rng(0).integers(0, 2, (37, 37)) + 100 * np.eye(37, dtype=np.int64)
    chart, _ = drawn(confusion, [f"american_pit_bull_terrier_{number}" for number in range(37)])
    assert len(chart.svg) < 250_000
