import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.config import NetworkConfig, TrainReidConfig
from reidray.config.sections.open_section import config_to_dict
from reidray.reporting.model_card import render_model_card
from reidray.reporting.run_summary import DataSummary

CONFIG = config_to_dict(
    TrainReidConfig(
        data="/srv/crops",
        output="runs/a",
        network=NetworkConfig(name="apr", backbone="resnet_small", height=128, width=64),
    )
)
DATA = DataSummary("/srv/my_crops", "trento", 7000, 40, 300, 17, 4, ("a.jpg: empty",), ("a note",))
FIGURES = {
    "mean_ap": 0.6222,
    "mean_inp": 0.1,
    "rank1": 0.7012,
    "rank5": 0.8,
    "rank10": 0.9,
    "protocol": "market1501, 90 queries",
    "groups": [
        {
            "group": "gender male",
            "queries": 80,
            "people": 40,
            "mean_ap": 0.6422,
            "mean_ap_interval": [0.6011, 0.6844],
            "rank1": 0.71,
            "rank1_interval": [0.66, 1.0],
        },
        {
            "group": "age old",
            "queries": 1,
            "people": 1,
            "mean_ap": 0.5,
            "mean_ap_interval": None,
            "rank1": 1.0,
            "rank1_interval": None,
        },
    ],
    "group_intervals": "95% intervals of people",
    "attribute_accuracy": 0.85,
    "attribute_majority": 0.755,
    "attributes": {
        "upper_colour": {"accuracy": 0.6, "majority": 0.6},
        "hair": {"accuracy": 0.9, "majority": 0.7},
    },
}


def section(card, title):
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_card_states_metrics_and_protocol():
    text = section(render_model_card(CONFIG, FIGURES, 54, DATA), "Metrics")
    assert "epoch 54" in text
    assert "| mAP | 62.2% |" in text
    assert "| Rank-1 | 70.1% |" in text
    assert "| Attribute accuracy | 85.0% |" in text
    assert "| Majority guess | 75.5% |" in text
    assert "Protocol: market1501, 90 queries" in text
    assert r"most frequent value: upper\_colour." in text


def test_the_card_states_the_trained_share_of_the_epoch():
    card = render_model_card(CONFIG, FIGURES | {"epoch_share": 0.05}, 1, DATA)
    assert f"The weights are those of epoch 1 of {CONFIG['epochs']}, 5% of it." in card


def test_the_card_states_metrics_of_subgroups_with_counts_and_intervals():
    text = section(render_model_card(CONFIG, FIGURES, 1, DATA), "Metrics of subgroups")
    male = "| gender male | 80 | 40 | 64.2% | 60.1 to 68.4% | +2.0 | 71.0% | 66.0 to 100.0% |"
    assert male in text
    assert "| age old | 1 | 1 | 50.0% | n/a | -12.2 | 100.0% | n/a |" in text
    assert "95% intervals of people" in text
    assert "age old with 1 query, a single query changes Rank-1 by 100.0 percentage points" in text


def test_large_groups_carry_no_warning():
    figures = FIGURES | {"groups": FIGURES["groups"][:1]}
    assert "unreliable" not in render_model_card(CONFIG, figures, 1, DATA)


def test_a_baseline_without_attributes_and_groups_has_a_card():
    figures = {key: FIGURES[key] for key in ("mean_ap", "mean_inp", "rank1", "rank5", "rank10")}
    network = NetworkConfig(name="baseline", height=128, width=64)
    config = config_to_dict(TrainReidConfig(data="d", output="o", network=network))
    card = render_model_card(config, figures | {"groups": []}, 1, replace(DATA, cameras=0))
    assert "Unknown: the validation images have no gender or age labels" in card
    assert "attributes." not in card.split("## ")[0]
    assert "0 cameras" not in card


def test_the_card_states_the_training_and_the_scoring_command():
    card = render_model_card(CONFIG, FIGURES, 1, DATA)
    text = section(card, "Training")
    for fact in ("`/srv/my_crops`", "7,000 images of 40 people", "4 cameras", "`resnet_small`"):
        assert fact in text
    assert "identity 1.0, triplet 1.0, attributes 1.0" in text
    assert "1 bad image that did not decode was left out" in text
    assert "a note" in text
    assert "uv run jobs/score_nightly.py --model DIR" in section(card, "Scoring")


def test_the_card_says_that_the_weights_are_an_average():
    averaged = {**CONFIG, "optimizer": {**CONFIG["optimizer"], "ema_decay": 0.999}}
    cards = [render_model_card(each, FIGURES, 12, DATA) for each in (CONFIG, averaged)]
    added = set(cards[1].splitlines()) - set(cards[0].splitlines())
    assert added == {"- Weights: a moving average over the steps of the training, decay 0.999."}


def test_a_loss_of_weight_0_is_left_out():
    config = CONFIG | {"loss": CONFIG["loss"] | {"triplet": 0.0}}
    assert "identity 1.0, attributes 1.0." in render_model_card(config, FIGURES, 1, DATA)


@pytest.mark.parametrize(
    "nasty", ["a\n# heading", "<b>bold</b> | *x* [a](b)", "back `tick` \\", "\udcff"]
)
def test_notes_and_names_cannot_change_the_page(nasty):
    figures = FIGURES | {"groups": [FIGURES["groups"][0] | {"group": nasty}]}
    card = render_model_card(
        CONFIG, figures, 1, replace(DATA, root=f"/srv/{nasty}", notes=(nasty,))
    )
    plain = render_model_card(CONFIG, FIGURES, 1, DATA)
    card.encode()
    assert re.findall("^#.*", card, re.M) == re.findall("^#.*", plain, re.M)
    assert not re.search(r"(?<!\\)[<*\[]", re.sub("(`+).*?\\1", "", card, flags=re.S))


@given(note=st.text())
def test_no_note_adds_a_line_to_the_card(note):
    plain = render_model_card(CONFIG, FIGURES, 1, DATA)
    card = render_model_card(CONFIG, FIGURES, 1, replace(DATA, root=note, notes=(note,)))
    assert len(card.splitlines()) == len(plain.splitlines())
