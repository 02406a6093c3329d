"""Write the embeddings of images as a Parquet file, in row groups as they come."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq

from reidray.data.attribute_schema import AttributeSchema
from reidray.data.images.decoding import BadImage
from reidray.inference.image_batches import BATCH_SIZE, BatchPredictions
from reidray.inference.predictions import PredictionShape
from reidray.inference.runs.labelled_images import LabelledImages

ROW_GROUP = 8192
"""Images in a row group, which are held in memory before they are written."""

PATH, EMBEDDING, UNCERTAINTY = "path", "embedding", "attribute_uncertainty"


class EmbeddingTable:
    """Write the rows of images that decode, in the order of their paths.

    | column | type | content |
    |---|---|---|
    | `path` | string | the image, relative to the `root` of the metadata |
    | `embedding` | list of D float32 | not normalised |
    | `person`, `camera` | int64 or string | where they are known |
    | `split` | string | where the data have splits |
    | `predicted_<attribute>` | dictionary of strings | the most likely value |
    | `attribute_uncertainty` | float32 | where the model predicts attributes |

    Use it as a context manager, which closes the file.

    Attributes:
        num_rows: number of rows so far.
        bad: the images so far that do not decode.
    """

    def __init__(
        self,
        file: Path,
        images: LabelledImages,
        shape: PredictionShape,
        schema: AttributeSchema,
        metadata: Mapping[str, str],
    ) -> None:
        """Begin a file.

        Args:
            file: the file to write.
            images: the images, all of which are added batch by batch.
            shape: sizes of the predictions.
            schema: attributes of the model.
            metadata: texts for the metadata of the file.
        """
        self.num_rows = 0
        self.bad: list[BadImage] = []
        self._images, self._attributes = images, schema
        self._waiting: list[pa.RecordBatch] = []
        fields = [
            pa.field(PATH, pa.string()),
            pa.field(EMBEDDING, pa.list_(pa.float32(), shape.embedding_size)),
            *(pa.field(name, column.type) for name, column in images.columns.items()),
            *(
                pa.field(f"predicted_{name}", pa.dictionary(pa.int16(), pa.string()))
                for name in schema.names
            ),
        ]
        if schema.names:
            fields.append(pa.field(UNCERTAINTY, pa.float32()))
        self._schema = pa.schema(fields, dict(metadata))
        repeated = [field.name for field in fields if field.name not in (PATH, EMBEDDING)]
        self._writer = papq.ParquetWriter(
            file, self._schema, use_dictionary=repeated, compression="zstd"
        )

    @property
    def column_names(self) -> list[str]:
        """Return the names of the columns."""
        return list(self._schema.names)

    def add(self, result: BatchPredictions) -> None:
        """Add the images of a batch; batches come in their order (see `in_order`)."""
        paths = self._images.images.paths
        self.bad += [
            BadImage(paths[result.batch.indices[position]], reason)
            for position, reason in result.bad.items()
        ]
        if not len(result.positions):
            return
        rows = np.array(result.batch.indices, np.int64)[result.positions]
        predictions = result.predictions
        width = predictions.embeddings.shape[1]
        values = pa.array(np.ascontiguousarray(predictions.embeddings).ravel())
        columns = [
            pa.array([paths[row] for row in rows]),
            pa.FixedSizeListArray.from_arrays(values, width),
            *(column.take(pa.array(rows)) for column in self._images.columns.values()),
        ]
        for number, attribute in enumerate(self._attributes.attributes):
            labels = pa.array(predictions.attribute_labels[:, number].astype(np.int16))
            columns.append(
                pa.DictionaryArray.from_arrays(labels, pa.array(attribute.values, pa.string()))
            )
        if self._attributes.names:
            columns.append(pa.array(predictions.uncertainty))
        self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.num_rows += len(rows)
        while sum(map(len, self._waiting)) >= ROW_GROUP:
            self._write(ROW_GROUP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None and self._waiting:
            self._write(ROW_GROUP)
        self._writer.close()

    def _write(self, count: int) -> None:
        """Write a row group of the first rows that wait."""
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._writer.write_table(table.slice(0, count), row_group_size=count)
        self._waiting = [batch for batch in table.slice(count).to_batches() if len(batch)]


def in_order(results: Iterable[Sequence[BatchPredictions]]) -> Iterator[BatchPredictions]:
    """Yield the batches of `plan_batches` in their order; one that comes early is held.

    Args:
        results: every batch of all images of a set, in any order.
    """
    early: dict[int, BatchPredictions] = {}
    following = 0
    for group in results:
        early.update((result.batch.indices[0] // BATCH_SIZE, result) for result in group)
        while following in early:
            yield early.pop(following)
            following += 1
