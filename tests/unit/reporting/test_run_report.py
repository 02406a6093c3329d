import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reidray.config import TrainReidConfig
from reidray.config.sections.open_section import config_to_dict
from reidray.reporting.dataset_figures.figures import DatasetFigures
from reidray.reporting.dataset_figures.image_counts import ImageCounts
from reidray.reporting.run_report import write_run_report
from reidray.reporting.run_summary import DataSummary

CONFIG = config_to_dict(TrainReidConfig(data="/srv/crops", output="runs/night <1>"))
DATA = DataSummary("/srv/crops", "trento", 700, 40, 300, 17, 4)
NASTY = "<script>alert('a')</script> & \"b\" $\\frac$"
REFERENCES = ("src", "srcset", "href", "xlink:href", "data", "action", "poster", "background")
EMPTY = {"meta"}


class Page(HTMLParser):
    """Collect tags, references, ids and table rows of a page; check that tags close in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.references, self.ids, self.rows, self._open = [], [], [], [], []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.references += [value for name, value in attrs if name in REFERENCES]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("td", "th", "small") and "tr" in self._open:
            self.rows[-1].append(data)

    def row(self, first):
        return next(row for row in self.rows if row[0] == first)


def group_row(group, queries, mean_ap, rank1, interval=None):
    counts = {"group": group, "queries": queries, "people": queries // 2}
    figures = {"mean_ap": mean_ap, "mean_ap_interval": interval}
    return counts | figures | {"rank1": rank1, "rank1_interval": interval}


def epoch_row(epoch, mean_ap=None, *, attributes=True, groups=True):
    row = {
        "epoch": epoch,
        "step": 10 * epoch,
        "learning_rate": 1e-3 / epoch,
        "seconds": 60.0,
        "images_per_second": 640.0,
        "input_wait": 0.05,
        "loss": 3.0,
        "loss_identity": 2.0,
        "loss_triplet": 1.0,
    }
    if mean_ap is None:
        return row
    row |= {
        "mean_ap": mean_ap,
        "mean_inp": 0.1234,
        "rank1": 0.7012,
        "rank5": 0.8123,
        "rank10": 0.9234,
        "protocol": "market1501, 90 queries & 210 gallery images",
        "groups": [],
        "validation_seconds": 30.0,
    }
    if groups:
        row["group_intervals"] = "95 % intervals of people"
        row["groups"] = [
            group_row("gender male", 80, mean_ap + 0.02, 0.71, interval=[0.5512, 0.7]),
            group_row("gender female", 8, mean_ap - 0.15, 0.5),
        ]
    if attributes:
        row |= {
            "loss_attributes": 0.5,
            "attribute_accuracy": 0.85,
            "attribute_majority": 0.755,
            "attributes": {
                "hair": {"accuracy": 0.9, "majority": 0.7},
                "hat": {"accuracy": 0.8, "majority": 0.81},
            },
        }
    return row


@pytest.fixture(scope="module")
def pages():
    """The pages that the tests of this module have written, by what they show."""
    return {}


@pytest.fixture
def report(tmp_path, pages):
    def write(records, best_epoch, *, config=CONFIG, data=DATA):
        key = repr((records, best_epoch, config, data))
        if key not in pages:
            pages[key] = write_page(records, best_epoch, config=config, data=data)
        return pages[key]

    def write_page(records, best_epoch, *, config=CONFIG, data=DATA):
        path = tmp_path / "report.html"
        write_run_report(
            path,
            config=config,
            records=records,
            best_epoch=best_epoch,
            data=data,
            figures=DatasetFigures(ImageCounts()),
        )
        assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
        return path.read_text(encoding="utf-8")

    write.anew = write_page
    return write


def test_the_report_states_the_share_of_an_unfinished_epoch(report):
    written = report([epoch_row(1), epoch_row(2, 0.4) | {"epoch_share": 0.4}], 2)
    assert "1.4 of 60 epochs in" in written
    assert "The weights are those of\nepoch 2 of 60, 40% of it." in written
    assert Page(written).row("Metric")[1] == "Epoch 2 of 60, 40% of it"


def test_metrics_are_those_of_the_best_epoch(report):
    page = Page(report([epoch_row(1, 0.4111), epoch_row(2, 0.6222), epoch_row(3, 0.5333)], 2))
    assert page.row("Metric")[1] == "Epoch 2 of 60"
    values = {row[0]: row[1] for row in page.rows[1:8]}
    assert values == {
        "mAP": "62.2%",
        "Rank-1": "70.1%",
        "Rank-5": "81.2%",
        "Rank-10": "92.3%",
        "mINP": "12.3%",
        "Attribute accuracy": "85.0%",
        "Majority guess": "75.5%",
    }


def test_groups_have_counts_of_queries_and_small_ones_a_warning(report):
    written = report([epoch_row(1, 0.6)], 1)
    page = Page(written)
    assert page.row("gender male") == (
        ["gender male", "80", "40", "62.0%", "55.1 to 70.0%", "+2.0", "71.0%", "55.1 to 70.0%"]
    )
    assert page.row("gender female *") == (
        ["gender female *", "8", "4", "45.0%", "n/a", "-15.0", "50.0%", "n/a"]
    )
    assert "95 % intervals of people" in written
    assert (
        "gender female with 8 queries, a single query changes Rank-1 by 12.5 percentage points"
        in written
    )


def test_attributes_no_better_than_the_majority_are_named(report):
    written = report([epoch_row(1, 0.6)], 1)
    assert Page(written).row("hair") == ["hair", "90.0%", "70.0%", "+20.0"]
    assert "Not better than always predicting the most frequent value: hat." in written


def test_curves_show_each_loss_term_and_validation_metric(report):
    written = report([epoch_row(1), epoch_row(2, 0.5), epoch_row(3), epoch_row(4, 0.6)], 4)
    assert Page(written).tags.count("svg") == 8
    for label in ("identity", "triplet", "attributes", "mAP", "Rank-1", "majority guess"):
        assert re.search(rf"<text[^>]*>{label}</text>", written), label
    for label in ("Images per second", "Rate at the end of the epoch", "Share of the epoch"):
        assert re.search(rf"<text[^>]*>{label}</text>", written), label


def test_legends_stay_inside_their_charts(report):
    terms = {"loss_circle_softmax": 1.0, "loss_supervised_contrastive": 1.0}
    chart = report([epoch_row(1, 0.5) | terms], 1).split("<svg ")[1]
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', chart)[1])
    labels = re.findall(r'<text[^>]* x="([\d.]+)"[^>]*>([a-z ]+)</text>', chart)
    assert "supervised contrastive" in [label for _, label in labels]
    assert all(float(x) + 5.5 * len(label) < width for x, label in labels)  # of 10 points


def test_losses_on_validation_images_stand_beside_those_of_training(report):
    one = {"validation_loss": 0.5, "validation_loss_triplet": 0.5}
    written = report([epoch_row(1, 0.5) | one], 1)
    assert re.search(r"<text[^>]*>Loss, triplet</text>", written)
    titles = ("Loss in training", "Loss on validation images", "Ranking of validation people")
    places = [written.index(title) for title in titles]
    assert places == sorted(places)
    two = one | {"validation_loss": 1.1, "validation_loss_circle": 0.6}
    written = report([epoch_row(1, 0.5) | two], 1)
    assert re.search(r"<text[^>]*>circle</text>", written)


def test_a_single_epoch_without_attributes_and_groups(report):
    written = report([epoch_row(1, 0.25, attributes=False, groups=False)], 1)
    page = Page(written)
    assert page.row("mAP")[1] == "25.0%"
    assert "1 of 60 epochs in 90 s" in written
    assert page.tags.count("svg") == 5
    assert "subgroups" not in written
    assert "Majority" not in written


def test_data_and_configuration_are_in_the_page(report):
    data = replace(DATA, bad_images=("train/a.jpg: truncated",), notes=("2 people without images",))
    written = report([epoch_row(1, 0.5)], 1, data=data)
    for text in (
        "700 images of 40 people",
        "300 images of 17 other people",
        "1 image that",
        "train/a.jpg: truncated",
        "2 people without images",
        "  learning_rate: 0.001",
    ):
        assert text in written


def test_the_page_loads_nothing_and_runs_nothing(report):
    written = report([epoch_row(1, 0.4), epoch_row(2, 0.5)], 2)
    page = Page(written)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert all(reference.startswith("#") for reference in page.references)
    assert set(re.findall(r"url\((.)", written)) <= {"#"}
    assert "@import" not in written
    assert "default-src 'none'" in written


def test_ids_are_unique_and_references_find_theirs(report):
    written = report([epoch_row(1, 0.4), epoch_row(2, 0.5)], 2)
    page = Page(written)
    wanted = {reference[1:] for reference in page.references}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", written))
    assert wanted
    assert wanted <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_names_paths_and_notes_may_hold_anything(report):
    row = epoch_row(1, 0.5)
    row["attributes"] = {NASTY: {"accuracy": 0.5, "majority": 0.6}}
    row["groups"] = [group_row(NASTY, 3, float("nan"), 0.0)]
    row["protocol"] = NASTY
    data = DataSummary(NASTY, NASTY, 1, 1, 1, 1, 0, (NASTY, "\udcff.jpg"), (NASTY,))
    written = report([row], 1, config={**CONFIG, "output": f"runs/{NASTY}"}, data=data)
    page = Page(written)
    assert not {"script", "frac"} & set(page.tags)
    assert page.row(f"{NASTY} *")[3] == "n/a"
    assert "\\udcff.jpg" in written


def test_the_same_run_gives_the_same_page(report):
    records = [epoch_row(1, 0.4), epoch_row(2, 0.5)]
    assert report(records, 2) == report.anew(records, 2)


def test_a_best_epoch_without_record_is_refused(report):
    with pytest.raises(ValueError, match="no best epoch 7"):
        report([epoch_row(1, 0.5)], 7)
