"""Figures of a model on the query and gallery images of a labelled set."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.config.scoring import EvaluateConfig
from reidray.data.attribute_schema import AttributeSchema
from reidray.data.layouts import read_manifest
from reidray.errors import UserError
from reidray.evaluation.evaluation_result import EvaluationResult, ImageLabels, QueryResult
from reidray.evaluation.feature_evaluation import build_truth, choose_protocol, evaluate_features
from reidray.evaluation.feature_files import ImageFeatures
from reidray.inference.image_batches import ImageSet
from reidray.inference.image_sets import SetPredictions, embed_image_sets
from reidray.inference.ray_engine import plan_pool
from reidray.metrics.attribute_metrics import attribute_accuracy, majority_labels
from reidray.metrics.subgroups import subgroup_metrics
from reidray.models import LoadedModel, load_person_model
from reidray.scoring.gallery_distractors import labelled_distractors
from reidray.scoring.nightly_run import check_bad


def evaluate_model(
    config: EvaluateConfig, session: AbstractContextManager[None] | None = None
) -> EvaluationResult:
    """The figures of a model on the query and gallery images of a labelled set.

    Args:
        config: with `model` and `data`.
        session: a connection to Ray, opened once everything has been checked; None where Ray is
            connected already.

    Raises:
        UserError: model or data are not what they should be, the data tell no people or do not
            fit the rules, or too many images do not decode.
    """
    model = load_person_model(config.model or "")
    manifest = read_manifest(
        config.data or "", config.layout, root=config.root, follow_links=config.follow_links
    )
    tables = [
        check_split_labels(manifest.split(name), name, manifest.root)
        for name in ("query", "gallery")
    ]
    query, gallery = (read_labels(table) for table in tables)
    protocol = config.protocol or choose_protocol(query, gallery)
    build_truth(query, gallery, protocol, manifest.root)
    if config.distractor_scores:
        labelled_distractors(gallery.person_ids, manifest.root)
    sets = [ImageSet(manifest.location, tuple(table["path"].to_pylist())) for table in tables]
    found = _embed(model, sets, config, session)
    judged = evaluate_features(
        ImageFeatures(found[0].predictions.embeddings, query.take(found[0].rows)),
        ImageFeatures(
            found[1].predictions.embeddings,
            gallery.take(found[1].rows),
            found[1].predictions.uncertainty,
        ),
        replace(config, protocol=protocol),
        metric=config.metric or model.card.metric,
        source=manifest.root,
    )
    figures = {"model": model.model_id, "dataset": manifest.summary, **judged.metrics}
    figures["quarantined"] = sum(len(part.bad) for part in found)
    kept = [table.take(part.rows) for table, part in zip(tables, found, strict=True)]
    figures |= _group_figures(kept[0], judged.queries, manifest.schema)
    if manifest.schema.names and manifest.schema == model.architecture.schema:
        figures |= _attribute_figures(kept, found, manifest.schema)
    return replace(
        judged,
        metrics=figures,
        person_ids=manifest.person_ids,
        camera_ids=manifest.camera_ids,
    )


def _embed(
    model: LoadedModel,
    sets: Sequence[ImageSet],
    config: EvaluateConfig,
    session: AbstractContextManager[None] | None,
) -> list[SetPredictions]:
    with session or nullcontext():
        pool = plan_pool(config.num_workers, config.use_gpu)
        found = embed_image_sets(model, sets, pool, config.stall_timeout)
    for images, embedded in zip(sets, found, strict=True):
        check_bad(images, embedded.bad, config.max_bad)
    return found


def _group_figures(
    table: pa.Table, queries: Sequence[QueryResult], schema: AttributeSchema
) -> dict[str, Any]:
    """Figures of the queries by gender and age, as far as these are known."""
    return subgroup_metrics(
        np.array([query.average_precision for query in queries], dtype=np.float64),
        np.array([query.first_match_rank or 0 for query in queries]),
        table["person"].to_numpy(),
        _codes(table, schema),
        schema,
    )


def _codes(table: pa.Table, schema: AttributeSchema) -> NDArray[np.int8]:
    """(N, A) attribute codes of the images of a manifest."""
    columns = [table[column].to_numpy() for column in schema.columns]
    return np.stack(columns, axis=1) if columns else np.empty((table.num_rows, 0), np.int8)


def _attribute_figures(
    tables: Sequence[pa.Table], found: Sequence[SetPredictions], schema: AttributeSchema
) -> dict[str, Any]:
    """Attribute accuracy over query and gallery images where codes are known."""
    codes = _codes(pa.concat_tables(tables), schema)
    predicted = np.concatenate([part.predictions.attribute_labels for part in found])
    majority = majority_labels(codes.astype(np.int64), schema)
    figures = attribute_accuracy(predicted, codes, schema, majority)
    return figures | ({"majority_from": "the images judged"} if figures else {})


def check_split_labels(table: pa.Table, split: str, root: str) -> pa.Table:
    """The images of a split, now that it is known who is on them.

    Raises:
        UserError: there are none, or it is not known of each.
    """
    if not table.num_rows:
        raise UserError(f"{root}: has no {split} images; evaluation needs query and gallery")
    unknown = table.filter(table["person"].is_null())["path"]
    if 0 < len(unknown) < table.num_rows:
        raise UserError(
            f"{root}: does not tell who is on {len(unknown)} of {table.num_rows} {split} images "
            f"(the first is {unknown[0].as_py()!r}); say who it is, write -1 for junk or 0 for a "
            "distractor, or leave these images out"
        )
    if len(unknown):
        raise UserError(
            f"{root}: does not tell who is on its {split} images; score them with score_nightly "
            "and judge the files with --ranking and --truth"
        )
    return table


def read_labels(table: pa.Table) -> ImageLabels:
    """Who is on the images; cameras only if every one is known."""
    cameras = table["camera"]
    return ImageLabels(
        person_ids=table["person"].to_numpy(),
        camera_ids=None if cameras.null_count else cameras.to_numpy().astype(np.int64),
        names=tuple(table["path"].to_pylist()),
    )
