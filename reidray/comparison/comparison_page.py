"""What the page of a comparison shows, gathered from its figures and images."""

from dataclasses import asdict, dataclass

import numpy as np
import yaml

from reidray.comparison.comparison_data import ComparedImages, image_names
from reidray.comparison.method_evaluation import Judged, PersonRanks, person_ranks
from reidray.comparison.methods import FittedBaselines
from reidray.comparison.report_samples import (
    draw_triplets,
    largest_wins,
    map_embeddings,
    people_to_map,
    triplet_distances,
)
from reidray.config.comparison import CompareConfig
from reidray.data.images.decoding import decode_files
from reidray.reporting.charts.cmc import cmc_comparison_chart
from reidray.reporting.charts.embedding_maps import embedding_maps
from reidray.reporting.charts.encoding import crop_data_uri, png_data_uri
from reidray.reporting.charts.explained_variance import (
    MARKED_SHARES,
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
QUERY, GALLERY = 0, 1


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison that is done.

    Attributes:
        config: what was asked for.
        images: what was compared on.
        judged: the methods, the baselines first.
        fitted: the baselines.
    """

    config: CompareConfig
    images: ComparedImages
    judged: tuple[Judged, ...]
    fitted: FittedBaselines


def build_page(compared: Compared) -> ComparisonReport:
    """Everything that the page shows. Reads the crops it shows once more."""
    images, judged, config = compared.images, compared.judged, compared.config
    ranks = person_ranks(judged, images)
    winners = ranks.winners()
    return ComparisonReport(
        data=images.location.uri,
        facts=_facts(compared),
        methods=[method.figures() for method in judged],
        protocol=f"protocol {images.protocol}",
        naming=images.naming,
        cmc_chart=png_data_uri(
            cmc_comparison_chart({method.method.name: method.curve for method in judged})
        ),
        maps_chart=png_data_uri(_maps(compared)),
        variance_chart=png_data_uri(variance_chart(compared.fitted.cumulative_variance)),
        components=_components(compared.fitted),
        people=_people(ranks),
        wins=_wins(compared, ranks),
        win_counts={
            method.method.name: int((winners == number).sum())
            for number, method in enumerate(judged)
        },
        triplets=_triplets(compared),
        notes=_notes(compared),
        config=yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True),
    )


def _maps(compared: Compared) -> bytes:
    """t-SNE of the same images by each method."""
    rows = people_to_map(compared.images, compared.config.seed)
    maps = {
        judged.method.name: map_embeddings(judged.method, rows, compared.config.seed)
        for judged in compared.judged
    }
    return embedding_maps(maps, compared.images.sets[-1].person_ids[rows])


def _wins(compared: Compared, ranks: PersonRanks) -> list[ReportedWin]:
    names = [judged.method.name for judged in compared.judged]
    return [
        ReportedWin(
            method=names[win.method],
            person=win.person,
            query=_crop(compared.images, QUERY, win.query),
            match=_crop(compared.images, GALLERY, win.match),
            ranks=dict(zip(names, ranks.mean_rank[:, win.place].tolist(), strict=True)),
        )
        for win in largest_wins(compared.images, ranks)
    ]


def _triplets(compared: Compared) -> list[ReportedTriplet]:
    images = compared.images
    return [
        ReportedTriplet(
            anchor=_crop(images, QUERY, triplet.anchor),
            positive=_crop(images, GALLERY, triplet.positive),
            negative=_crop(images, GALLERY, triplet.negative),
            distances={
                judged.method.name: TripletDistances(*triplet_distances(judged.method, triplet))
                for judged in compared.judged
            },
        )
        for triplet in draw_triplets(images, compared.config.seed)
    ]


def _crop(images: ComparedImages, part: int, row: int) -> str:
    """The `data:` address of an image of a set."""
    name = image_names(images.sets[part])[row]
    return crop_data_uri(decode_files(images.location, [name], CROP_SIZE).crops[0])


def _people(ranks: PersonRanks) -> list[PersonRow]:
    columns = ranks.people, ranks.queries, ranks.mean_rank.T, ranks.found_first.T
    return [
        PersonRow(person, queries, tuple(mean), tuple(first))
        for person, queries, mean, first in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def _components(fitted: FittedBaselines) -> str:
    """How many components reach the marked shares of the variance."""
    shares = fitted.cumulative_variance
    reached = {share: components_for(shares, share) for share in MARKED_SHARES}
    told = ", ".join(f"{count:,} hold {share:.0%}" for share, count in reached.items() if count)
    return f"Of {len(shares):,} principal components {told} of the variance of the training crops."


def _facts(compared: Compared) -> dict[str, str]:
    images, config = compared.images, compared.config
    counted = zip(images.set_names, images.sets, strict=True)
    people = len(np.unique(images.train.person_ids))
    kind = "luminance" if config.grey else "colour"
    return {
        "Baselines learnt from": f"{len(images.train.person_ids):,} images of {people:,} people",
        "Baselines saw": f"crops of {config.height}x{config.width}, {kind}, standardised pixels",
        **{
            name.replace("_", " ").capitalize(): f"{len(labels.person_ids):,} images of "
            f"{len(np.unique(labels.person_ids)):,} people"
            for name, labels in counted
        },
        "Models": ", ".join(
            f"{judged.method.name} ({judged.method.model_id})"
            for judged in compared.judged
            if judged.method.model_id
        )
        or "none",
    }


def _notes(compared: Compared) -> list[str]:
    """What a reader must know beside the figures."""
    if not any(judged.method.model_id for judged in compared.judged):
        return []
    return [
        "What a model was trained on is not checked here: where it has seen the people compared, "
        "its figures flatter. A model of jobs/train_reid.py on the same data, with the same "
        "val_fraction and split_seed, has not seen the validation people."
    ]


def _plain(config: CompareConfig) -> dict[str, object]:
    """The configuration in types that YAML has."""
    values = asdict(config)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
