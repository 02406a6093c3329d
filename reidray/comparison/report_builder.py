"""Build the report of a comparison from its metrics and images."""

from dataclasses import asdict, dataclass

import numpy as np
import yaml
from numpy.typing import NDArray

from reidray.comparison.comparison_data import GALLERY, QUERY, ComparisonData, image_names
from reidray.comparison.method_evaluation import MethodMetrics, PersonRanks, rank_people
from reidray.comparison.methods import FittedBaselines
from reidray.comparison.report_samples import (
    choose_mapped_images,
    draw_triplets,
    largest_wins,
    map_embeddings,
    triplet_distances,
)
from reidray.config.comparison import CompareConfig
from reidray.data.images.decoding import decode_files
from reidray.reporting.charts.cmc import cmc_comparison_chart
from reidray.reporting.charts.embedding_maps import embedding_maps
from reidray.reporting.charts.encoding import crop_data_uri, png_data_uri
from reidray.reporting.charts.explained_variance import (
    components_for,
    variance_chart,
)
from reidray.reporting.comparison_report import (
    ComparisonReport,
    PersonRow,
    ReportedTriplet,
    ReportedWin,
    TripletDistances,
)

CROP_SIZE = (128, 64)
DESCRIBED_SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Hold the results of a comparison.

    Attributes:
        config: the configuration of the comparison.
        data: the compared images.
        metrics: the metrics of each method, the baselines first.
        baselines: the fitted baselines.
    """

    config: CompareConfig
    data: ComparisonData
    metrics: tuple[MethodMetrics, ...]
    baselines: FittedBaselines


def build_report(comparison: Comparison) -> ComparisonReport:
    """Build the report. Reads the crops that the report shows."""
    data, metrics = comparison.data, comparison.metrics
    ranks = rank_people(metrics, data)
    best_methods = ranks.best_methods()
    variance = comparison.baselines.cumulative_variance
    return ComparisonReport(
        data=data.location.uri,
        facts=_facts(comparison),
        methods=[each.to_row() for each in metrics],
        protocol=f"protocol {data.protocol}",
        neighbours=data.neighbours_description,
        cmc_chart=png_data_uri(cmc_comparison_chart({each.name: each.curve for each in metrics})),
        maps_chart=png_data_uri(_maps_chart(comparison)),
        variance_chart=png_data_uri(variance_chart(variance)),
        components=[_describe_components(name, shares) for name, shares in variance.items()],
        people=_person_rows(ranks),
        wins=_wins(comparison, ranks),
        win_counts={
            each.name: int((best_methods == index).sum()) for index, each in enumerate(metrics)
        },
        triplets=_triplets(comparison),
        notes=_notes(comparison),
        config=yaml.safe_dump(_to_yaml(comparison.config), sort_keys=False, allow_unicode=True),
    )


def _maps_chart(comparison: Comparison) -> bytes:
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
    return embedding_maps(maps, data.sets[gallery].person_ids[indices])


def _wins(comparison: Comparison, ranks: PersonRanks) -> list[ReportedWin]:
    data, names = comparison.data, [each.name for each in comparison.metrics]
    return [
        ReportedWin(
            method=names[win.method],
            person=win.person,
            query=_crop_uri(data, QUERY, win.query),
            match=_crop_uri(data, GALLERY, win.match),
            ranks=dict(zip(names, ranks.mean_rank[:, win.person_index].tolist(), strict=True)),
        )
        for win in largest_wins(data, ranks)
    ]


def _triplets(comparison: Comparison) -> list[ReportedTriplet]:
    data = comparison.data
    return [
        ReportedTriplet(
            anchor=_crop_uri(data, QUERY, triplet.anchor),
            positive=_crop_uri(data, GALLERY, triplet.positive),
            negative=_crop_uri(data, GALLERY, triplet.negative),
            distances={
                each.name: TripletDistances(*triplet_distances(each.method, triplet))
                for each in comparison.metrics
            },
        )
        for triplet in draw_triplets(data, comparison.config.seed)
    ]


def _crop_uri(data: ComparisonData, set_name: str, index: int) -> str:
    """Return the `data:` URI of an image of a set."""
    name = image_names(data.sets[set_name])[index]
    return crop_data_uri(decode_files(data.location, [name], CROP_SIZE).crops[0])


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


def _facts(comparison: Comparison) -> dict[str, str]:
    """Describe the images and the models, by title."""
    data, config = comparison.data, comparison.config
    models = [each.method for each in comparison.metrics if each.method.model_id]
    return {
        "Training of baselines": _count_images_and_people(data.train.person_ids),
        "Input of baselines": f"crops of {config.height}x{config.width}, "
        f"{'luminance' if config.grey else 'colour'}, standardised pixels",
        **{
            name.replace("_", " ").capitalize(): _count_images_and_people(labels.person_ids)
            for name, labels in data.sets.items()
        },
        "Models": ", ".join(f"{model.name} ({model.model_id})" for model in models) or "none",
    }


def _count_images_and_people(person_ids: NDArray[np.int64]) -> str:
    return f"{len(person_ids):,} images of {len(np.unique(person_ids)):,} people"


def _notes(comparison: Comparison) -> list[str]:
    """Return warnings about the metrics."""
    if not any(each.method.model_id for each in comparison.metrics):
        return []
    return [
        "The comparison does not check the training data of the models. The metrics of a model "
        "that was trained on the compared people are too high. A model of jobs/train_reid.py on "
        "the same data, with the same val_fraction and split_seed, was not trained on the "
        "validation people."
    ]


def _to_yaml(config: CompareConfig) -> dict[str, object]:
    """Return the configuration as types of YAML."""
    values = asdict(config)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
