"""Evaluate a model on the query and gallery images of a labelled set."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.config.data_sources import DataSource, join_values, pair_sources
from reidray.config.scoring import EvaluateConfig, ProtocolName
from reidray.data.attribute_schema import AttributeSchema
from reidray.data.crop_labels import CropLabels
from reidray.data.layouts import read_manifest
from reidray.data.manifest import Manifest
from reidray.evaluation.evaluation_result import EvaluationResult, QueryResult
from reidray.evaluation.feature_evaluation import evaluate_features
from reidray.evaluation.feature_files import ImageFeatures
from reidray.evaluation.image_labels import (
    ImageLabels,
    check_split_labels,
    choose_protocol,
    label_ground_truth,
    read_labels,
)
from reidray.inference.image_batches import ImageSet
from reidray.inference.image_sets import SetPredictions, embed_image_sets
from reidray.inference.inference_settings import choose_settings
from reidray.inference.runs.embedding_engine import RayConnection, choose_engine, embeds_on_gpu
from reidray.inference.runs.run_timing import StageTimer
from reidray.metrics.attribute_metrics import attribute_accuracy, majority_labels
from reidray.metrics.subgroups import subgroup_metrics
from reidray.models import LoadedModel, load_person_model
from reidray.scoring.gallery_distractors import find_distractor_kinds


@dataclass(frozen=True)
class LabelledSet:
    """Hold the query and gallery images of a set, whose people are known.

    Attributes:
        manifest: the set.
        query: labels of the query images.
        gallery: labels of the gallery images.
        protocol: protocol of the ranking.
    """

    manifest: Manifest
    query: ImageLabels
    gallery: ImageLabels
    protocol: ProtocolName

    def image_sets(self, prefix: str = "") -> tuple[ImageSet, ImageSet]:
        """Return the query and gallery images to embed, under names that begin with a prefix."""
        location = self.manifest.location
        return (
            ImageSet(f"{prefix}query", location, self.query.names or ()),
            ImageSet(f"{prefix}gallery", location, self.gallery.names or ()),
        )


@dataclass(frozen=True)
class EmbeddedSets:
    """Hold the predictions of a model for some sets.

    Attributes:
        sets: the predictions of each set, by its name.
        model_id: id of the embeddings.
        images_per_second: images of all sets by the seconds of their embedding.
    """

    sets: Mapping[str, SetPredictions]
    model_id: str
    images_per_second: float


def evaluate_model(
    config: EvaluateConfig,
    session: AbstractContextManager[None] | None = None,
    *,
    starts_ray: bool = False,
) -> EvaluationResult:
    """Embed the query and gallery images of a labelled set, and evaluate the embeddings.

    Args:
        config: evaluation with one `model` and one set as `data`.
        session: connection to Ray, opened after all checks, where it is needed; by default that
            of this process, or one like that of a job (see `RayConnection`).
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Raises:
        UserError: the model or the data are not usable, the data have no person ids or do not fit
            the protocol, or too many images do not decode.
    """
    (source,) = pair_sources(config.data or "", config.layout)
    model = load_person_model(join_values(config.model or ""))
    labelled = read_labelled_set(config, source)
    images = labelled.image_sets()
    with RayConnection(session, StageTimer(), starts_ray=starts_ray) as connection:
        embedded = embed_for_evaluation(config, model, images, connection)
    query, gallery = (embedded.sets[each.name] for each in images)
    return evaluate_predictions(config, model, embedded.model_id, labelled, query, gallery)


def embed_for_evaluation(
    config: EvaluateConfig,
    model: LoadedModel,
    image_sets: Sequence[ImageSet],
    connection: RayConnection,
) -> EmbeddedSets:
    """Embed the images of some sets with one model, where that is soonest.

    Args:
        config: evaluation of a model.
        model: the model.
        image_sets: sets with different names.
        connection: connection to Ray, which is opened where it is needed.

    Raises:
        UserError: the cluster cannot place the workers, or too many images do not decode.
    """
    on_gpu = embeds_on_gpu(config, connection)
    settings = choose_settings(config.precision, config.flip, on_gpu=on_gpu)
    count = sum(len(each.paths) for each in image_sets)
    engine = choose_engine(count, config, settings, connection, on_gpu=on_gpu)
    started = time.perf_counter()
    sets = embed_image_sets(engine.embed, model, image_sets)
    seconds = time.perf_counter() - started
    for each in image_sets:
        each.check_bad_images(sets[each.name].bad, config.max_bad)
    return EmbeddedSets(sets, settings.embedding_id(model.model_id), count / seconds)


def read_labelled_set(config: EvaluateConfig, source: DataSource) -> LabelledSet:
    """Read a set whose query and gallery images show known people, and check its protocol.

    Args:
        config: evaluation of a model.
        source: the set.

    Raises:
        UserError: the set is not usable, has no person ids, or does not fit the protocol.
    """
    manifest = read_manifest(
        source.data, source.layout, root=config.root, follow_links=config.follow_links
    )
    query = read_labels(check_split_labels(manifest.split("query"), "query", manifest.root))
    gallery = read_labels(check_split_labels(manifest.split("gallery"), "gallery", manifest.root))
    protocol = config.protocol or choose_protocol(query, gallery)
    label_ground_truth(query, gallery, protocol, manifest.root)
    if config.distractor_scores:
        find_distractor_kinds(gallery.person_ids, manifest.root)
    return LabelledSet(manifest, query, gallery, protocol)


def evaluate_predictions(
    config: EvaluateConfig,
    model: LoadedModel,
    model_id: str,
    labelled: LabelledSet,
    query: SetPredictions,
    gallery: SetPredictions,
) -> EvaluationResult:
    """Evaluate the predictions of a model for the images of a labelled set.

    Args:
        config: evaluation of a model.
        model: the model.
        model_id: id of its embeddings.
        labelled: the set.
        query: predictions for the query images.
        gallery: predictions for the gallery images.

    Raises:
        UserError: no query that decodes has a match.
    """
    manifest = labelled.manifest
    result = evaluate_features(
        ImageFeatures(query.predictions.embeddings, labelled.query.take(query.indices)),
        ImageFeatures(
            gallery.predictions.embeddings,
            labelled.gallery.take(gallery.indices),
            gallery.predictions.uncertainty,
        ),
        replace(config, protocol=labelled.protocol),
        metric=config.metric or model.card.metric,
        source=manifest.root,
    )
    metrics = {"model": model_id, "dataset": manifest.summary, **result.metrics}
    metrics["quarantined"] = len(query.bad) + len(gallery.bad)
    query_attributes = CropLabels.from_manifest(manifest, "query").attribute_labels
    gallery_attributes = CropLabels.from_manifest(manifest, "gallery").attribute_labels
    query_attributes = query_attributes[query.indices]
    gallery_attributes = gallery_attributes[gallery.indices]
    metrics |= _evaluate_subgroups(result.queries, query_attributes, manifest.schema)
    if manifest.schema.names and manifest.schema == model.architecture.schema:
        predicted = [query.predictions.attribute_labels, gallery.predictions.attribute_labels]
        metrics |= _evaluate_attributes(
            np.concatenate(predicted),
            np.concatenate([query_attributes, gallery_attributes]),
            manifest.schema,
        )
    return replace(
        result,
        metrics=metrics,
        person_ids=manifest.person_ids,
        camera_ids=manifest.camera_ids,
    )


def _evaluate_subgroups(
    queries: Sequence[QueryResult], attribute_labels: NDArray[np.int8], schema: AttributeSchema
) -> dict[str, Any]:
    """Return the metrics of the queries by gender and age, as far as these are known.

    Args:
        queries: results of N queries.
        attribute_labels: (N, A) int8 labels of the queries.
        schema: the A attributes.
    """
    return subgroup_metrics(
        np.array([query.average_precision for query in queries], dtype=np.float64),
        np.array([query.first_match_rank or 0 for query in queries]),
        np.array([query.person for query in queries], dtype=np.int64),
        attribute_labels,
        schema,
    )


def _evaluate_attributes(
    predicted: NDArray[np.int64], labels: NDArray[np.int8], schema: AttributeSchema
) -> dict[str, Any]:
    """Return the attribute accuracy over the images with known attributes.

    Args:
        predicted: (N, A) int64 predicted labels.
        labels: (N, A) int8 correct labels, -1 where unknown.
        schema: the A attributes.
    """
    majority = majority_labels(labels.astype(np.int64), schema)
    metrics = attribute_accuracy(predicted, labels, schema, majority)
    return metrics | ({"majority_from": "the images judged"} if metrics else {})
