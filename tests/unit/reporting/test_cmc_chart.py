import io

import numpy as np
import pytest
from PIL import Image

from reidray.reporting.charts.cmc import cmc_chart

RISING = [0.65, 0.7, 0.75, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92, 0.95]


def pixels(curve, summary="market1501, 343 queries"):
    return np.asarray(Image.open(io.BytesIO(cmc_chart(curve, summary))).convert("RGB"))


@pytest.fixture(scope="module")
def rising():
    return pixels(RISING)


def blue_height(chart):
    """Return the height of the curve in the middle of the chart, from 0 (top) to 1 (bottom)."""
    is_blue = (np.abs(chart.astype(int) - (0x00, 0x72, 0xB2)) < 40).all(axis=2)
    column = is_blue[:, chart.shape[1] // 2]
    assert column.any()
    return np.flatnonzero(column).mean() / len(column)


def test_a_higher_curve_is_drawn_higher():
    assert blue_height(pixels([0.65, *[0.7] * 9])) > blue_height(pixels([0.65, *[0.95] * 9]))


def test_the_same_curve_gives_the_same_bytes():
    assert cmc_chart(RISING, "one line") == cmc_chart(RISING, "one line")


@pytest.mark.parametrize("curve", [[0.0], [1.0], [1.0] * 50, [0.004] * 12, [0.1] * 4000, RISING])
def test_charts_of_all_curves_have_one_size_and_a_margin(curve, rising):
    chart = pixels(curve, "$x_ a long summary \\frac, with several rules " * 5)
    assert chart.shape == rising.shape
    assert (chart[:, [0, -1]] == 255).all()
    assert (chart[[0, -1]] == 255).all()
