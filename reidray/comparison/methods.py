"""What each method makes of the images: baselines are fitted here, models are as trained."""

import posixpath
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reidray.baselines.distributed_pixels import compute_moments, project_images
from reidray.baselines.lda import SHARE, LDABaseline
from reidray.baselines.pca import PCABaseline
from reidray.baselines.pixel_projection import PixelProjection
from reidray.comparison.comparison_data import ComparedImages, image_names
from reidray.config.comparison import LDA_NAME, CompareConfig
from reidray.data.images.decoding import BadImage, check_bad_images
from reidray.inference.image_batches import ImageSet
from reidray.inference.image_sets import embed_image_sets
from reidray.inference.ray_engine import EmbeddingPool
from reidray.models import LoadedModel, load_person_model
from reidray.progress import Activity

BASELINE_METRIC = "cosine"
"""On validation people of market-qut better than euclidean for PCA, than both others for LDA."""


@dataclass(frozen=True, eq=False)
class Method:
    """A method and its embeddings.

    Attributes:
        name: as the user or the baseline calls it.
        metric: distance between its embeddings.
        embeddings: (N, D) float32 for each of the compared sets.
        training_seconds: None where unknown.
        inference_seconds: to decode and embed the sets, start of its processes included.
        model_id: of a trained model; empty for a baseline.
    """

    name: str
    metric: str
    embeddings: tuple[NDArray[np.float32], ...]
    training_seconds: float | None
    inference_seconds: float
    model_id: str = ""


@dataclass(frozen=True, eq=False)
class FittedBaselines:
    """Baselines that have learnt.

    Attributes:
        projections: by name.
        seconds: each took to learn, by name.
        cumulative_variance: (S,) float64, of all principal components there are.
        bad: the images that did not decode.
    """

    projections: dict[str, PixelProjection]
    seconds: dict[str, float]
    cumulative_variance: NDArray[np.float64]
    bad: tuple[BadImage, ...]


def load_models(folders: dict[str, str]) -> dict[str, LoadedModel]:
    """The models to compare, by name.

    Raises:
        UserError: a directory is no model's, or the model embeds nothing.
    """
    return {name: load_person_model(folder) for name, folder in folders.items()}


def fit_baselines(config: CompareConfig, images: ComparedImages) -> FittedBaselines:
    """The baselines, from the training people's images. Ray is connected.

    One sum of moments and one decomposition serve all; the seconds of each count both.

    Raises:
        UserError: too many images do not decode.
    """
    start = time.perf_counter()
    names = image_names(images.train)
    size = config.height, config.width
    moments, bad = compute_moments(images.location, names, size, grey=config.grey)
    _check_bad(images, bad, len(names), config.max_bad)
    with Activity("fitting PCA"):
        whole = PCABaseline.from_moments(moments, min(moments.count, len(moments.sums)))
    projections: dict[str, PixelProjection] = {
        name: whole.keep(components) for name, components in config.pca_names.items()
    }
    seconds = dict.fromkeys(projections, time.perf_counter() - start)
    base = whole.keep(SHARE)
    learnt = project_images(base, images.location, names)
    people = images.train.person_ids[learnt.rows]
    with Activity("fitting LDA"):
        projections[LDA_NAME] = LDABaseline.fit(base, learnt.embeddings, people)
    seconds[LDA_NAME] = time.perf_counter() - start
    return FittedBaselines(projections, seconds, whole.cumulative_variance, bad)


def embed_baselines(
    config: CompareConfig, images: ComparedImages, fitted: FittedBaselines
) -> tuple[list[Method], ComparedImages]:
    """The baselines' embeddings, and the images less those that did not decode.

    Raises:
        UserError: too many images do not decode.
    """
    methods = []
    for name, projection in fitted.projections.items():
        start = time.perf_counter()
        names = [path for labels in images.sets for path in image_names(labels)]
        found = project_images(projection, images.location, names)
        seconds = time.perf_counter() - start
        _check_bad(images, found.bad, len(names), config.max_bad)
        images, parts = _decoded(images, found.rows, found.embeddings)
        metric = config.metric or BASELINE_METRIC
        methods.append(Method(name, metric, parts, fitted.seconds[name], seconds))
    return methods, images


def embed_model(
    name: str,
    model: LoadedModel,
    config: CompareConfig,
    images: ComparedImages,
    pool: EmbeddingPool,
) -> Method:
    """A model's embeddings.

    Raises:
        UserError: an image does not decode that did so before.
    """
    start = time.perf_counter()
    image_sets = [
        ImageSet(set_name, images.location, image_names(labels))
        for set_name, labels in zip(images.set_names, images.sets, strict=True)
    ]
    found = embed_image_sets(model, image_sets, pool)
    seconds = time.perf_counter() - start
    for each in image_sets:
        each.check_bad_images(found[each.name].bad, max_bad=0)
    training_seconds = model.card.metrics.get("training_seconds")
    metric = config.metric or model.card.metric
    embeddings = tuple(found[each.name].predictions.embeddings for each in image_sets)
    return Method(name, metric, embeddings, training_seconds, seconds, model.model_id)


def _decoded(
    images: ComparedImages, rows: NDArray[np.int64], embeddings: NDArray[np.float32]
) -> tuple[ComparedImages, tuple[NDArray[np.float32], ...]]:
    """Images and embeddings of each set, of the rows (M,) of all sets that decoded."""
    ends = np.cumsum([len(labels.person_ids) for labels in images.sets])
    cuts = np.searchsorted(rows, ends)[:-1]
    starts = np.concatenate([[0], ends[:-1]])
    kept = [part - start for part, start in zip(np.split(rows, cuts), starts, strict=True)]
    sets = tuple(labels.take(part) for labels, part in zip(images.sets, kept, strict=True))
    return replace(images, sets=sets), tuple(np.split(embeddings, cuts))


def _check_bad(images: ComparedImages, bad: Sequence[BadImage], total: int, max_bad: float) -> None:
    """Go on if few enough images were bad; the error names them in full."""
    located = [
        BadImage(posixpath.join(images.location.uri, image.path), image.reason) for image in bad
    ]
    check_bad_images(located, total, max_bad)
