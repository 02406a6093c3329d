"""Choose and encode the pictures of the report of a comparison."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from reidray.comparison.comparison_data import GALLERY, QUERY, ComparisonData, image_names
from reidray.comparison.comparison_result import Comparison
from reidray.comparison.method_evaluation import NEIGHBOURS, PersonRanks
from reidray.comparison.person_errors import find_suspects, most_confused
from reidray.comparison.report_samples import draw_triplets, largest_wins, triplet_distances
from reidray.data.images.decoding import decode_files
from reidray.evaluation.image_labels import ImageLabels
from reidray.reporting.charts.encoding import crop_data_uri
from reidray.reporting.comparison_report import (
    ConfusedPeople,
    ReconstructedCrops,
    ReportedTriplet,
    ReportedWin,
    SuspectLabel,
    TripletDistances,
)
from reidray.reporting.dataset_figures.pictures import (
    ImageSource,
    PictureSection,
    group_images,
    poor_section,
    sample_rows,
)

CROP_SIZE = (128, 64)
RECONSTRUCTED_SHARES = (0.95, 0.8, 0.5)
RECONSTRUCTED_CROPS = 8


def reported_wins(comparison: Comparison, ranks: PersonRanks) -> list[ReportedWin]:
    """Return the people whom one method ranks earlier than all others."""
    names = [each.name for each in comparison.metrics]
    return [
        ReportedWin(
            method=names[win.method],
            person=win.person,
            crops=_crops(comparison, {"query": (QUERY, win.query), "match": (GALLERY, win.match)}),
            ranks=dict(zip(names, ranks.mean_rank[:, win.person_index].tolist(), strict=True)),
        )
        for win in largest_wins(comparison.data, ranks)
    ]


def reported_triplets(comparison: Comparison) -> list[ReportedTriplet]:
    """Return triplets with their distances; none without pictures."""
    if comparison.config.no_images:
        return []
    return [
        ReportedTriplet(
            crops=_crops(
                comparison,
                {
                    "query": (QUERY, triplet.anchor),
                    "same person": (GALLERY, triplet.positive),
                    "other person": (GALLERY, triplet.negative),
                },
            ),
            distances={
                each.name: TripletDistances(*triplet_distances(each.method, triplet))
                for each in comparison.metrics
            },
        )
        for triplet in draw_triplets(comparison.data, comparison.config.seed)
    ]


def confused_people(comparison: Comparison) -> list[ConfusedPeople]:
    """Return the pairs of people that each method confuses most often."""
    query, gallery = comparison.data.neighbour_sets
    rows = []
    for each in comparison.metrics:
        for pair in most_confused(each, comparison.data, NEIGHBOURS[0]):
            shown = {"image": (query, pair.query)}
            if pair.match is not None:
                shown["same person"] = (gallery, pair.match)
            shown["predicted person"] = (gallery, pair.confused)
            rows.append(
                ConfusedPeople(
                    method=each.name,
                    person=pair.person,
                    predicted=pair.other,
                    images=pair.images,
                    total=pair.total,
                    crops=_crops(comparison, shown),
                )
            )
    return rows


def suspect_labels(comparison: Comparison) -> list[SuspectLabel]:
    """Return the images that look mislabelled."""
    query, gallery = comparison.data.neighbour_sets
    names = image_names(comparison.data.sets[query])
    return [
        SuspectLabel(
            image=names[suspect.query],
            person=suspect.person,
            looks_like=suspect.other,
            methods=suspect.methods,
            crops=_crops(
                comparison,
                {
                    "image": (query, suspect.query),
                    "labelled person": (gallery, suspect.match),
                    "predicted person": (gallery, suspect.confused),
                },
            ),
        )
        for suspect in find_suspects(comparison.metrics, comparison.data)
    ]


def reconstructed_crops(comparison: Comparison) -> list[ReconstructedCrops]:
    """Return crops, and what a number of principal components keeps of them."""
    if comparison.config.no_images:
        return []
    data, pca = comparison.data, comparison.baselines.pca
    names = image_names(data.query)
    drawn = np.random.default_rng(comparison.config.seed).permutation(len(names))
    paths = [names[index] for index in np.sort(drawn[:RECONSTRUCTED_CROPS])]
    crops = decode_files(data.location, paths, pca.scaler.size).crops
    height, width = pca.scaler.size
    seen = pca.scaler.restore(pca.scaler.transform(crops))
    rows = [ReconstructedCrops(f"Crops of {height}x{width}", tuple(map(crop_data_uri, seen)))]
    for share in RECONSTRUCTED_SHARES:
        kept = pca.truncate(share)
        title = f"{share:.0%} of the variance: {len(kept.components):,} components"
        restored = kept.reconstruct(kept.embed(crops))
        rows.append(ReconstructedCrops(title, tuple(map(crop_data_uri, restored))))
    return rows


def data_sections(comparison: Comparison) -> list[PictureSection]:
    """Show people of the training images, and the images of all sets that look poor."""
    if comparison.config.no_images:
        return []
    data, seed = comparison.data, comparison.config.seed
    bad = {image.path for image in comparison.baselines.bad_images}
    names = image_names(data.train)
    train = data.train.take(np.flatnonzero([name not in bad for name in names]))
    groups = {
        f"Person {person}": images
        for person, images in group_images(np.arange(len(train)), train.person_ids).items()
    }
    variability = PictureSection(
        "Variability within a person",
        "Images of some training people, drawn at random.",
        sample_rows(_image_source(data, train), groups, seed),
    )
    every = _joined([train, *data.sets.values()])
    return [variability, poor_section(_image_source(data, every), np.arange(len(every)), seed)]


def _joined(sets: list[ImageLabels]) -> ImageLabels:
    """Return the labels of all images of some sets, each image once."""
    people = {
        name: person
        for labels in sets
        for name, person in zip(image_names(labels), labels.person_ids.tolist(), strict=True)
    }
    return ImageLabels(np.array([*people.values()], np.int64), names=tuple(people))


def _image_source(data: ComparisonData, labels: ImageLabels) -> ImageSource:
    names = image_names(labels)

    def read(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return decode_files(data.location, [names[index] for index in indices], CROP_SIZE).crops

    return ImageSource(read, names.__getitem__)


def _crops(comparison: Comparison, shown: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Return `data:` URIs by description; none without pictures.

    Args:
        comparison: the comparison.
        shown: the set and the index of each image, by its description.
    """
    if comparison.config.no_images:
        return {}
    data = comparison.data
    names = [image_names(data.sets[set_name])[index] for set_name, index in shown.values()]
    crops = decode_files(data.location, names, CROP_SIZE).crops
    return dict(zip(shown, map(crop_data_uri, crops), strict=True))
