"""Render the report of a comparison of re-ID methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reidray.reporting.dataset_figures.image_counts import ImageCounts
from reidray.reporting.dataset_figures.pictures import PictureSection
from reidray.reporting.rendering import render


@dataclass(frozen=True)
class ReportedWin:
    """Show a person whom one method ranks earlier than all other methods.

    Attributes:
        method: the name of that method.
        person: the person id.
        crops: `data:` URIs of a query and a matching gallery image, by description.
        ranks: the mean rank of the first match, by method.
    """

    method: str
    person: int
    crops: Mapping[str, str]
    ranks: Mapping[str, float]


@dataclass(frozen=True)
class TripletDistances:
    """Hold the distances from the anchor of a triplet.

    Attributes:
        positive: distance to the image of the same person.
        negative: distance to the image of another person.
    """

    positive: float
    negative: float


@dataclass(frozen=True)
class ReportedTriplet:
    """Show a query, a gallery image of the same person and one of another person.

    Attributes:
        crops: `data:` URIs of the three images, by description.
        distances: the distances from the query, by method.
    """

    crops: Mapping[str, str]
    distances: Mapping[str, TripletDistances]


@dataclass(frozen=True)
class ReportedPair:
    """Compare two methods by person.

    Attributes:
        names: the names of the two methods.
        chart: `data:` URI of the metrics of each person by both methods.
        more_accurate: the number of people of whom each method classifies more images rightly.
        earlier: the number of people whose first match each method ranks earlier.
        people: the number of people whose images are classified, and of those who are ranked.
    """

    names: Sequence[str]
    chart: str
    more_accurate: Sequence[int]
    earlier: Sequence[int]
    people: tuple[int, int]


@dataclass(frozen=True)
class ConfusedPeople:
    """Show a person whose images a method takes for another person.

    Attributes:
        method: the name of the method.
        person: the person id.
        predicted: the id of the predicted person.
        images: the number of images that are taken for this person.
        total: the number of classified images of the person.
        crops: `data:` URIs of images of both, by description.
    """

    method: str
    person: int
    predicted: int
    images: int
    total: int
    crops: Mapping[str, str]


@dataclass(frozen=True)
class SuspectLabel:
    """Show an image that looks mislabelled.

    Attributes:
        image: the path of the image.
        person: the person id of its label.
        looks_like: the id of the person whom the methods predict.
        methods: the number of methods that predict this person.
        crops: `data:` URIs of the image and of images of both people, by description.
    """

    image: str
    person: int
    looks_like: int
    methods: int
    crops: Mapping[str, str]


@dataclass(frozen=True)
class ReconstructedCrops:
    """Show crops, or what some principal components keep of them.

    Attributes:
        title: a description of the crops.
        crops: `data:` URIs.
    """

    title: str
    crops: Sequence[str]


@dataclass(frozen=True)
class PersonRow:
    """Hold the metrics of one person.

    Attributes:
        person: the person id.
        queries: the number of query images.
        mean_ranks: the mean rank of the first match, one value per method.
        top1: the share of queries with a match at rank 1, one value per method.
    """

    person: int
    queries: int
    mean_ranks: Sequence[float]
    top1: Sequence[float]


@dataclass(frozen=True)
class ComparisonReport:
    """Hold the contents of the report.

    Attributes:
        data: folder or URI of the images.
        shows_images: whether the report shows images.
        facts: descriptions of the images and models, by title.
        methods: the metrics of each method, by the name of the column in table.csv.
        protocol: the protocol of the ranking.
        neighbours: the images of the nearest-neighbour accuracy, in words.
        cmc_chart: `data:` URI of the CMC curves.
        maps_chart: `data:` URI of the t-SNE maps.
        variance_chart: `data:` URI of the cumulative explained variance.
        components: numbers of components that explain some shares of the variance, in words; one
            line for each method.
        reconstructions: crops and their reconstructions from principal components.
        pca_variants: the metrics of variants of PCA, by the names of comparison.json.
        people: the metrics of each person.
        wins: people whom one method ranks earlier than all others.
        win_counts: the number of such people, by method.
        pair: the metrics of each person by two methods.
        confusion_chart: `data:` URI of the confusion matrices of the people.
        confusion_people: the people of the confusion matrices, in words.
        confused: the pairs of people that each method confuses most often.
        confused_neighbours: the number of nearest neighbours of these pairs.
        suspects: images that look mislabelled.
        triplets: sampled triplets.
        counts: counts of the images of each set.
        data_sections: images of the data set.
        notes: warnings, one line each.
        config: the configuration as YAML.
    """

    data: str
    shows_images: bool
    facts: Mapping[str, str]
    methods: Sequence[Mapping[str, Any]]
    protocol: str
    neighbours: str
    cmc_chart: str
    maps_chart: str
    variance_chart: str
    components: Sequence[str]
    reconstructions: Sequence[ReconstructedCrops]
    pca_variants: Sequence[Mapping[str, Any]]
    people: Sequence[PersonRow]
    wins: Sequence[ReportedWin]
    win_counts: Mapping[str, int]
    pair: ReportedPair
    confusion_chart: str
    confusion_people: str
    confused: Sequence[ConfusedPeople]
    confused_neighbours: int
    suspects: Sequence[SuspectLabel]
    triplets: Sequence[ReportedTriplet]
    counts: ImageCounts
    data_sections: Sequence[PictureSection]
    notes: Sequence[str]
    config: str


def render_comparison_report(report: ComparisonReport) -> str:
    """Render the report as HTML."""
    names = [row["method"] for row in report.methods]
    return render("comparison.html", report=report, names=names)
