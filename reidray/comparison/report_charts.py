"""Draw the charts of the report of a comparison."""

import numpy as np

from reidray.comparison.comparison_result import Comparison
from reidray.comparison.method_evaluation import NEIGHBOURS, PersonRanks, choose_pair
from reidray.comparison.person_errors import MAX_CELLS, confusion_cells, person_accuracy
from reidray.comparison.report_samples import choose_mapped_images, map_embeddings
from reidray.reporting.charts.confusion_matrix import confusion_maps
from reidray.reporting.charts.embedding_maps import embedding_maps
from reidray.reporting.charts.encoding import png_data_uri
from reidray.reporting.charts.person_accuracy import PersonPanel, person_chart
from reidray.reporting.comparison_report import ReportedPair


def maps_chart(comparison: Comparison) -> str:
    """Draw the t-SNE map of each method, of the same images."""
    data, seed = comparison.data, comparison.config.seed
    gallery = data.neighbour_sets.gallery
    indices = choose_mapped_images(data, seed)
    maps = {
        each.name: map_embeddings(
            each.method.embeddings[gallery][indices], each.method.metric, seed
        )
        for each in comparison.metrics
    }
    return png_data_uri(embedding_maps(maps, data.sets[gallery].person_ids[indices]))


def confusion_chart_of_people(comparison: Comparison) -> str:
    """Draw the confusion matrix of the people, for each method and number of neighbours."""
    data = comparison.data
    query_ids = data.sets[data.neighbour_sets.query].person_ids
    maps = {
        f"{each.name}, k = {k}": confusion_cells(query_ids, each.predicted[k])
        for each in comparison.metrics
        for k in NEIGHBOURS
    }
    return png_data_uri(confusion_maps(maps))


def describe_cells(comparison: Comparison) -> str:
    """Return how the people are arranged in the confusion matrices, in words."""
    data = comparison.data
    people = len(np.unique(data.sets[data.neighbour_sets.query].person_ids))
    if people <= MAX_CELLS:
        return f"{people:,} people in the order of their ids"
    return f"{people:,} people in the order of their ids, of whom several share a row"


def pair_of_methods(comparison: Comparison, ranks: PersonRanks) -> ReportedPair:
    """Draw the metrics of each person by the best baseline and the best model."""
    metrics, k = comparison.metrics, NEIGHBOURS[0]
    pair = choose_pair(metrics)
    names = [metrics[index].name for index in pair]
    accuracy = np.stack([person_accuracy(metrics[index], comparison.data, k)[1] for index in pair])
    mean_rank = ranks.mean_rank[list(pair)]
    chart = person_chart(
        names,
        [
            PersonPanel(f"Share of images classified rightly, k = {k}", accuracy, is_share=True),
            PersonPanel("Rank of the first match", mean_rank, is_share=False),
        ],
    )
    return ReportedPair(
        names=names,
        chart=png_data_uri(chart),
        more_accurate=_count_larger(accuracy),
        earlier=_count_larger(-mean_rank),
        people=(accuracy.shape[1], mean_rank.shape[1]),
    )


def _count_larger(values: np.ndarray) -> list[int]:
    """Return for how many people, (2, P), the value of each of two methods is the larger one."""
    first, second = values
    return [int((first > second).sum()), int((second > first).sum())]
