"""Evaluate a model on the query and gallery images of a labelled set."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import EvaluateConfig
from reidray.data.attribute_schema import AttributeSchema
from reidray.data.crop_labels import CropLabels
from reidray.data.layouts import read_manifest
from reidray.evaluation.evaluation_result import EvaluationResult, QueryResult
from reidray.evaluation.feature_evaluation import evaluate_features
from reidray.evaluation.feature_files import ImageFeatures
from reidray.evaluation.image_labels import (
    check_split_labels,
    choose_protocol,
    label_ground_truth,
    read_labels,
)
from reidray.inference.image_batches import ImageSet
from reidray.inference.image_sets import embed_image_sets
from reidray.inference.inference_settings import choose_settings
from reidray.inference.ray_engine import plan_pool
from reidray.metrics.attribute_metrics import attribute_accuracy, majority_labels
from reidray.metrics.subgroups import subgroup_metrics
from reidray.models import load_person_model
from reidray.scoring.gallery_distractors import find_distractor_kinds


def evaluate_model(
    config: EvaluateConfig, session: AbstractContextManager[None] | None = None
) -> EvaluationResult:
    """Embed the query and gallery images of a labelled set, and evaluate the embeddings.

    Args:
        config: evaluation with `model` and `data`.
        session: connection to Ray, which is opened after all checks; by default Ray is connected
            already.

    Raises:
        UserError: the model or the data are not usable, the data have no person ids or do not fit
            the protocol, or too many images do not decode.
    """
    model = load_person_model(config.model or "")
    manifest = read_manifest(
        config.data or "", config.layout, root=config.root, follow_links=config.follow_links
    )
    query = read_labels(check_split_labels(manifest.split("query"), "query", manifest.root))
    gallery = read_labels(check_split_labels(manifest.split("gallery"), "gallery", manifest.root))
    protocol = config.protocol or choose_protocol(query, gallery)
    label_ground_truth(query, gallery, protocol, manifest.root)
    if config.distractor_scores:
        find_distractor_kinds(gallery.person_ids, manifest.root)

    image_sets = [
        ImageSet("query", manifest.location, query.names or ()),
        ImageSet("gallery", manifest.location, gallery.names or ()),
    ]
    with session or nullcontext():
        pool = plan_pool(config.num_workers, config.use_gpu)
        settings = choose_settings(config.precision, config.flip, on_gpu=pool.use_gpu)
        embedded = embed_image_sets(model, image_sets, pool, config.stall_timeout, settings)
    for images in image_sets:
        images.check_bad_images(embedded[images.name].bad, config.max_bad)
    query_images, gallery_images = embedded["query"], embedded["gallery"]

    result = evaluate_features(
        ImageFeatures(
            query_images.predictions.embeddings,
            query.take(query_images.indices),
        ),
        ImageFeatures(
            gallery_images.predictions.embeddings,
            gallery.take(gallery_images.indices),
            gallery_images.predictions.uncertainty,
        ),
        replace(config, protocol=protocol),
        metric=config.metric or model.card.metric,
        source=manifest.root,
    )
    metrics = {
        "model": settings.embedding_id(model.model_id),
        "dataset": manifest.summary,
        **result.metrics,
    }
    metrics["quarantined"] = len(query_images.bad) + len(gallery_images.bad)
    query_attributes = CropLabels.from_manifest(manifest, "query").attribute_labels
    gallery_attributes = CropLabels.from_manifest(manifest, "gallery").attribute_labels
    query_attributes = query_attributes[query_images.indices]
    gallery_attributes = gallery_attributes[gallery_images.indices]
    metrics |= _evaluate_subgroups(result.queries, query_attributes, manifest.schema)
    if manifest.schema.names and manifest.schema == model.architecture.schema:
        predicted = [
            query_images.predictions.attribute_labels,
            gallery_images.predictions.attribute_labels,
        ]
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
