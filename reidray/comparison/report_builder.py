"""Build the report of a comparison from its metrics and images."""

from dataclasses import asdict

import numpy as np
import yaml
from numpy.typing import NDArray

from reidray.comparison.comparison_data import VALIDATION_QUERY, ComparisonData
from reidray.comparison.comparison_result import Comparison
from reidray.comparison.method_evaluation import NEIGHBOURS, PersonRanks, rank_people
from reidray.comparison.report_charts import (
    confusion_chart_of_people,
    describe_cells,
    maps_chart,
    pair_of_methods,
)
from reidray.comparison.report_pictures import (
    confused_people,
    data_sections,
    reconstructed_crops,
    reported_triplets,
    reported_wins,
    suspect_labels,
)
from reidray.config.comparison import CompareConfig
from reidray.evaluation.image_labels import ImageLabels
from reidray.reporting.charts.cmc import cmc_comparison_chart
from reidray.reporting.charts.encoding import png_data_uri
from reidray.reporting.charts.explained_variance import components_for, variance_chart
from reidray.reporting.comparison_report import ComparisonReport, PersonRow
from reidray.reporting.dataset_figures.image_counts import ImageCounts, count_people

DESCRIBED_SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)


def build_report(comparison: Comparison) -> ComparisonReport:
    """Build the report. Reads the crops that the report shows."""
    data, metrics = comparison.data, comparison.metrics
    ranks = rank_people(metrics, data)
    best_methods = ranks.best_methods()
    variance = comparison.baselines.cumulative_variance
    return ComparisonReport(
        data=data.location.uri,
        shows_images=not comparison.config.no_images,
        facts=_facts(comparison),
        methods=[each.to_row() for each in metrics],
        protocol=f"protocol {data.protocol}",
        neighbours=data.neighbours_description,
        cmc_chart=png_data_uri(cmc_comparison_chart({each.name: each.curve for each in metrics})),
        maps_chart=maps_chart(comparison),
        variance_chart=png_data_uri(variance_chart(variance)),
        components=[_describe_components(name, shares) for name, shares in variance.items()],
        reconstructions=reconstructed_crops(comparison),
        pca_variants=[each.to_row() for each in comparison.pca_variants],
        people=_person_rows(ranks),
        wins=reported_wins(comparison, ranks),
        win_counts={
            each.name: int((best_methods == index).sum()) for index, each in enumerate(metrics)
        },
        pair=pair_of_methods(comparison, ranks),
        confusion_chart=confusion_chart_of_people(comparison),
        confusion_people=describe_cells(comparison),
        confused=confused_people(comparison),
        confused_neighbours=NEIGHBOURS[0],
        suspects=suspect_labels(comparison),
        triplets=reported_triplets(comparison),
        counts=_count_images(data),
        data_sections=data_sections(comparison),
        notes=_notes(comparison),
        config=yaml.safe_dump(_to_yaml(comparison.config), sort_keys=False, allow_unicode=True),
    )


def _person_rows(ranks: PersonRanks) -> list[PersonRow]:
    return [
        PersonRow(
            person=int(person),
            queries=int(ranks.query_counts[index]),
            mean_ranks=ranks.mean_rank[:, index].tolist(),
            top1=ranks.top1[:, index].tolist(),
        )
        for index, person in enumerate(ranks.person_ids)
    ]


def _describe_components(name: str, cumulative: NDArray[np.float64]) -> str:
    """Return the numbers of components that explain some shares of the variance."""
    reached = {share: components_for(cumulative, share) for share in DESCRIBED_SHARES}
    counts = ", ".join(
        f"{count:,} explain {share:.0%}" for share, count in reached.items() if count
    )
    return f"{name}: of {len(cumulative):,} components, {counts}."


def _count_images(data: ComparisonData) -> ImageCounts:
    """Count the images of each person and camera of each set; each image counts once."""
    named = {"training": data.train, "query": data.query, "gallery": data.gallery}
    sets = data.neighbour_sets
    if sets.query == VALIDATION_QUERY and not data.learns_from_all:
        named |= {"val query": data.sets[sets.query], "val gallery": data.sets[sets.gallery]}
    return count_people(
        {name: labels.person_ids for name, labels in named.items()},
        {name: _camera_ids(labels) for name, labels in named.items()},
    )


def _camera_ids(labels: ImageLabels) -> NDArray[np.int64]:
    return np.full(len(labels), -1) if labels.camera_ids is None else labels.camera_ids


def _facts(comparison: Comparison) -> dict[str, str]:
    """Describe the images and the models, by title."""
    data, config = comparison.data, comparison.config
    models = [each.method for each in comparison.metrics if each.method.model_id]
    people = "all training people" if data.learns_from_all else "people that are not validated on"
    kind = "training" if data.learns_from_all else "validation"
    return {
        "Training of baselines": f"{_count_images_and_people(data.train.person_ids)}: {people}",
        "Input of baselines": f"crops of {config.height}x{config.width}, "
        f"{'luminance' if config.grey else 'colour'}, standardised pixels",
        **{
            name.replace("_", " ")
            .replace("validation", kind)
            .capitalize(): _count_images_and_people(labels.person_ids)
            for name, labels in data.sets.items()
        },
        "Models": ", ".join(f"{model.name} ({model.model_id})" for model in models) or "none",
    }


def _count_images_and_people(person_ids: NDArray[np.int64]) -> str:
    return f"{len(person_ids):,} images of {len(np.unique(person_ids)):,} people"


def _notes(comparison: Comparison) -> list[str]:
    """Return warnings about the metrics."""
    notes = []
    if comparison.data.learns_from_all:
        notes.append(
            "The baselines have learnt from all training people. Where the gallery has one image "
            "of each person, k and the confusion matrices are of these people, so that the values "
            "of the baselines are too high."
        )
    if any(each.method.model_id for each in comparison.metrics):
        note = (
            "The comparison does not check the training data of the models. The metrics of a model "
            "that was trained on the compared people are too high."
        )
        if not comparison.data.learns_from_all:
            note += (
                " A model of jobs/train_reid.py on the same data, with the same val_fraction, "
                "split_order and split_seed, was not trained on the validation people."
            )
        notes.append(note)
    return notes


def _to_yaml(config: CompareConfig) -> dict[str, object]:
    """Return the configuration as types of YAML."""
    values = asdict(config)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
