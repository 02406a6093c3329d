"""Figures of a model on the query and gallery images of a labelled set."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.accuracy import attribute_accuracy, most_frequent
from reidray.data.attributes import AttributeSchema
from reidray.data.layouts import read_layout
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.models import load_model
from reidray.retrieval import evaluate
from reidray.scoring.config import EvaluateConfig
from reidray.scoring.embedder import EmbeddedSet, ImageSet, embed_sets, plan_pool
from reidray.scoring.file_evaluation import RANKS
from reidray.scoring.night import check_bad


def judge_model(
    config: EvaluateConfig, session: AbstractContextManager[None] | None = None
) -> dict[str, Any]:
    """The figures of a model on the query and gallery images of a labelled set.

    Args:
        config: with `model` and `data`.
        session: a connection to Ray, opened once everything has been checked; None where Ray is
            connected already.

    Raises:
        UserError: model or data are not what they should be, the data tell no people, or too many
            images do not decode.
    """
    model = load_model(config.model or "")
    manifest = read_layout(config.data or "", config.layout)
    tables = [_labelled(manifest.split(name), name, manifest.root) for name in ("query", "gallery")]
    location = Location(manifest.root)
    sets = [ImageSet(location, tuple(table["path"].to_pylist())) for table in tables]
    with session or nullcontext():
        pool = plan_pool(config.num_workers, config.use_gpu)
        found = embed_sets(model, sets, pool)
    for images, embedded in zip(sets, found, strict=True):
        check_bad(images, embedded, config.max_bad)
    kept = [table.take(part.rows) for table, part in zip(tables, found, strict=True)]
    cameras = [_cameras(table) for table in kept]
    has_cameras = all(part is not None for part in cameras)
    metric = config.metric or model.card.metric
    ranking = evaluate(
        found[0].embeddings,
        found[1].embeddings,
        *(table["person"].to_numpy() for table in kept),
        *(cameras if has_cameras else (None, None)),
        metric=metric,
        protocol=config.protocol or ("market1501" if has_cameras else "all"),
    )
    figures = {"mean_ap": float(ranking.mean_ap), "mean_inp": float(ranking.mean_inp)}
    figures |= {f"rank{k}": float(ranking.cmc[min(k, len(ranking.cmc)) - 1]) for k in RANKS}
    summary = {"model": model.model_id, "protocol": str(ranking), "metric": metric, **figures}
    summary |= {"queries": len(sets[0].paths), "gallery": len(sets[1].paths)}
    summary["quarantined"] = sum(len(part.bad) for part in found)
    if manifest.schema.names and manifest.schema == model.spec.schema:
        summary |= _attribute_figures(kept, found, manifest.schema)
    return summary


def _attribute_figures(
    tables: Sequence[pa.Table], found: Sequence[EmbeddedSet], schema: AttributeSchema
) -> dict[str, Any]:
    """Attribute accuracy over query and gallery images where codes are known."""
    known = pa.concat_tables(tables).select(list(schema.columns))
    codes = np.stack([column.to_numpy() for column in known.columns], axis=1)
    predicted = np.concatenate([part.codes for part in found])
    majority = most_frequent(codes.astype(np.int64), schema)
    figures = attribute_accuracy(predicted, codes.astype(np.int8), schema, majority)
    return figures | ({"majority_from": "the images judged"} if figures else {})


def _labelled(table: pa.Table, split: str, root: str) -> pa.Table:
    if not table.num_rows:
        raise UserError(f"{root}: has no {split} images; evaluation needs query and gallery")
    if table["person"].null_count:
        raise UserError(
            f"{root}: does not tell who is on its {split} images; score them with score_nightly "
            "and judge the files with --ranking and --truth"
        )
    return table


def _cameras(table: pa.Table) -> NDArray[np.int64] | None:
    """Cameras of the images, if every one is known."""
    column = table["camera"]
    return None if column.null_count else column.to_numpy().astype(np.int64)
