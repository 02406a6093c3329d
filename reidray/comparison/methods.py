"""Embed the images of a comparison with each method: fitted baselines and trained models."""

import posixpath
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from reidray.baselines.distributed_pixels import compute_moments, project_images
from reidray.baselines.lda import SHARE, LDABaseline
from reidray.baselines.pca import PCABaseline
from reidray.baselines.pixel_moments import PixelMoments
from reidray.baselines.pixel_projection import PixelProjection
from reidray.comparison.comparison_data import GALLERY, QUERY, ComparisonData, image_names
from reidray.config.comparison import LDA_NAME, CompareConfig
from reidray.data.images.decoding import BadImage, check_bad_images
from reidray.inference.image_batches import ImageSet
from reidray.inference.image_sets import embed_image_sets
from reidray.inference.inference_settings import choose_settings
from reidray.inference.ray_engine import EmbeddingPool, embed_with_ray
from reidray.models import LoadedModel, load_person_model
from reidray.progress import Activity

BASELINE_METRIC = "cosine"
"""Default distance of the baselines. On the validation people of market-qut it is more accurate
than euclidean for PCA, and than euclidean and l1 for LDA."""


@dataclass(frozen=True, eq=False)
class Method:
    """Hold the embeddings of a method.

    Attributes:
        name: the name of the method.
        metric: the distance between its embeddings.
        embeddings: (N, D) float32 embeddings of each set, by the name of the set.
        training_seconds: training time; None where it is unknown.
        inference_seconds: time for decoding and embedding the sets, including the start of the
            processes.
        model_id: the id of the embeddings of a trained model; empty for a baseline.
    """

    name: str
    metric: str
    embeddings: Mapping[str, NDArray[np.float32]]
    training_seconds: float | None
    inference_seconds: float
    model_id: str = ""

    @property
    def query(self) -> NDArray[np.float32]:
        """Return the embeddings of the query images."""
        return self.embeddings[QUERY]

    @property
    def gallery(self) -> NDArray[np.float32]:
        """Return the embeddings of the gallery images."""
        return self.embeddings[GALLERY]


@dataclass(frozen=True, eq=False)
class FittedBaselines:
    """Hold the fitted baselines.

    Attributes:
        projections: the projections by the name of the baseline.
        seconds: the training times by the name of the baseline.
        pca: the principal components that hold 99 per cent of the variance.
        moments: the moments of the pixels of the training images.
        bad_images: the training images that did not decode.
    """

    projections: Mapping[str, PixelProjection]
    seconds: Mapping[str, float]
    pca: PCABaseline
    moments: PixelMoments
    bad_images: tuple[BadImage, ...]

    @property
    def cumulative_variance(self) -> dict[str, NDArray[np.float64]]:
        """Return the cumulative explained variance of all components of PCA and of LDA.

        It is (S,) float64: for PCA the share of the variance of the pixels, for LDA that of the
        variance between people.
        """
        lda = self.projections[LDA_NAME]
        return {"PCA": self.pca.cumulative_variance, LDA_NAME: lda.cumulative_variance}


@dataclass(frozen=True, eq=False)
class EmbeddedBaselines:
    """Hold the embeddings of the baselines.

    Attributes:
        methods: the baselines.
        data: the images of the comparison without bad images.
    """

    methods: tuple[Method, ...]
    data: ComparisonData


def load_models(folders: Mapping[str, str]) -> dict[str, LoadedModel]:
    """Load the models to compare, by name.

    Raises:
        UserError: a folder holds no model, or a model computes no embeddings.
    """
    return {name: load_person_model(folder) for name, folder in folders.items()}


def fit_baselines(config: CompareConfig, data: ComparisonData) -> FittedBaselines:
    """Fit the baselines to the training images. Needs Ray.

    All baselines share the moments of the pixels and one decomposition. The training time of each
    includes both.

    Raises:
        UserError: too many images do not decode.
    """
    start = time.perf_counter()
    names = image_names(data.train)
    size = config.height, config.width
    moments, bad_images = compute_moments(data.location, names, size, grey=config.grey)
    _check_bad_images(data, bad_images, len(names), config.max_bad)
    with Activity("fitting PCA"):
        pca = PCABaseline.from_moments(moments, min(moments.count, len(moments.sums)))
    projections: dict[str, PixelProjection] = {
        name: pca.truncate(components) for name, components in config.pca_names.items()
    }
    seconds = dict.fromkeys(projections, time.perf_counter() - start)
    reduced = pca.truncate(SHARE)
    projected = project_images(reduced, data.location, names)
    person_ids = data.train.person_ids[projected.indices]
    with Activity("fitting LDA"):
        projections[LDA_NAME] = LDABaseline.fit(reduced, projected.embeddings, person_ids)
    seconds[LDA_NAME] = time.perf_counter() - start
    return FittedBaselines(projections, seconds, reduced, moments, bad_images)


def embed_baselines(
    config: CompareConfig, data: ComparisonData, fitted: FittedBaselines
) -> EmbeddedBaselines:
    """Embed the images with each baseline, and leave out the bad images. Needs Ray.

    Raises:
        UserError: too many images do not decode.
    """
    methods = []
    for name, projection in fitted.projections.items():
        start = time.perf_counter()
        names = [path for labels in data.sets.values() for path in image_names(labels)]
        projected = project_images(projection, data.location, names)
        seconds = time.perf_counter() - start
        _check_bad_images(data, projected.bad, len(names), config.max_bad)
        indices = _divide_by_set(data, projected.indices)
        ends = np.cumsum([len(each) for each in indices.values()])
        embeddings = np.split(projected.embeddings, ends[:-1])
        data = replace(
            data, sets={key: labels.take(indices[key]) for key, labels in data.sets.items()}
        )
        methods.append(
            Method(
                name=name,
                metric=config.metric or BASELINE_METRIC,
                embeddings=dict(zip(data.sets, embeddings, strict=True)),
                training_seconds=fitted.seconds[name],
                inference_seconds=seconds,
            )
        )
    return EmbeddedBaselines(tuple(methods), data)


def embed_model(
    name: str, model: LoadedModel, config: CompareConfig, data: ComparisonData, pool: EmbeddingPool
) -> Method:
    """Embed the images with a trained model. Needs Ray.

    Raises:
        UserError: an image does not decode that decoded for the baselines.
    """
    start = time.perf_counter()
    sets = [
        ImageSet(set_name, data.location, image_names(labels))
        for set_name, labels in data.sets.items()
    ]
    settings = choose_settings(config.precision, config.flip, on_gpu=pool.use_gpu)
    embed = partial(embed_with_ray, settings=settings, pool=pool)
    embedded = embed_image_sets(embed, model, sets)
    seconds = time.perf_counter() - start
    for each in sets:
        each.check_bad_images(embedded[each.name].bad, max_bad=0)
    return Method(
        name=name,
        metric=config.metric or model.card.metric,
        embeddings={each.name: embedded[each.name].predictions.embeddings for each in sets},
        training_seconds=model.card.metrics.get("training_seconds"),
        inference_seconds=seconds,
        model_id=settings.embedding_id(model.model_id),
    )


def _divide_by_set(
    data: ComparisonData, indices: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Divide ascending indices (M,) into the concatenated sets into indices into each set."""
    ends = np.cumsum([len(labels.person_ids) for labels in data.sets.values()])
    starts = np.concatenate([[0], ends[:-1]])
    parts = np.split(indices, np.searchsorted(indices, ends)[:-1])
    return {name: part - start for name, part, start in zip(data.sets, parts, starts, strict=True)}


def _check_bad_images(
    data: ComparisonData, bad_images: Sequence[BadImage], total: int, max_bad: float
) -> None:
    """Check that at most the share `max_bad` of the images is bad. The error names their URIs."""
    located = [
        BadImage(posixpath.join(data.location.uri, image.path), image.reason)
        for image in bad_images
    ]
    check_bad_images(located, total, max_bad)
