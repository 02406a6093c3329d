"""Write rows into a store as a nightly run does, and find what it holds."""

import numpy as np
import pyarrow as pa

from reidray.inference.distributed.prediction_rows import pack_embeddings, pack_labels, pack_numbers
from reidray.inference.predictions import Predictions
from reidray.scoring.store.part_file import DIGEST, IMAGES_SCHEMA, PartRows, rows_of_today
from reidray.scoring.store.stored_images import find_digests, read_predictions_at


def image_table(rows):
    """Return rows of folder, path, stamp, content and reason as a table."""
    return pa.Table.from_pylist(
        [dict(zip(IMAGES_SCHEMA.names, row, strict=True)) for row in rows], IMAGES_SCHEMA
    )


def part_rows(images, predictions: Predictions, model) -> PartRows:
    """Return images as the rows of a part; the first of them have the predictions."""
    places, count = np.arange(len(predictions)), len(images)
    packed = {
        "embedding": pack_embeddings(predictions.embeddings, places, count),
        "codes": pack_labels(predictions.attribute_labels, places, count),
        "doubt": pack_numbers(predictions.uncertainty, places, count),
    }
    for name, column in packed.items():
        images = images.append_column(name, column)
    return rows_of_today(images, model)


def append_rows(store, rows, predictions):
    """Append rows of folder, path, stamp, content and reason to a store."""
    store.append(part_rows(image_table(rows), predictions, store.contents.embedding_id))


def find_stored(store, digests):
    """Return the part and the row of each digest, or None where the model has no embedding."""
    found = find_digests(
        store.contents, store.contents.embedded_parts(), pa.array(digests, DIGEST)
    ).to_pylist()
    places = {row["content"]: (row["part"], row["row"]) for row in reversed(found)}
    return [places.get(digest) for digest in digests]


def read_stored(store, places):
    """Return the predictions at places that `find_stored` returned."""
    parts, rows = np.array(places, np.int32).reshape(-1, 2).T
    return read_predictions_at(store.contents, parts, rows)
