"""Keep the embeddings of a model from run to run, by the content of an image.

A store is a sequence of parts, `parts/NUMBER.parquet`. A part has images that a run has read and,
for those whose content was new to the model, the embedding and the attribute labels; or it lists
files with such rows, or of a ranking, which workers have written. One write commits it. A run that
is killed leaves a store that the next run goes on with.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

from reidray.inference.predictions import PredictionShape
from reidray.scoring.store.kept_ranking import KeptRanking
from reidray.scoring.store.legacy_layout import convert_legacy
from reidray.scoring.store.part_file import Deletion, PartRows, read_rows
from reidray.scoring.store.part_storage import (
    Part,
    PartFolder,
    PartStorage,
    RankingPart,
    TemporaryPartStorage,
)
from reidray.scoring.store.store_files import remove_temporary
from reidray.scoring.store.stored_images import StoreContents, summary_of
from reidray.storage.location import Location
from reidray.storage.publishing import exclusive_writer

_logger = logging.getLogger(__name__)


@contextmanager
def open_parts(uri: str) -> Iterator[PartFolder]:
    """Open the parts of a store as its only writer.

    Args:
        uri: folder or s3:// URI of the store, which may be new.

    Raises:
        UserError: another run is writing the store, it cannot be written, or a file is damaged.
    """
    location = Location(uri)
    with exclusive_writer(location):
        remove_temporary(location)
        parts = PartFolder(location)
        convert_legacy(location, parts)
        parts.remove_uncommitted()
        yield parts


@contextmanager
def open_temporary_parts(folder: Path) -> Iterator[PartStorage]:
    """Open parts that disappear at the end, or when the process is killed.

    Args:
        folder: a folder on a disk with room for the parts; no file appears in it.
    """
    with TemporaryFile(dir=folder) as file:
        yield TemporaryPartStorage(file)


class EmbeddingStore:
    """Hold the embeddings of one model in a store, those of earlier runs and new ones.

    Attributes:
        contents: the parts that hold them, which any process can read.
        replaced: the parts of earlier runs, of all models, where this run replaces the embeddings
            of its model; no part otherwise.
        other_ids: ids of the other embeddings that the store holds.
        rankings: the rankings that the store held when it was opened.
    """

    def __init__(
        self,
        parts: PartStorage,
        embedding_id: str,
        shape: PredictionShape,
        *,
        replace_existing: bool = False,
    ) -> None:
        """Open a store, which may be empty.

        Args:
            parts: the parts of the store.
            embedding_id: id of the model and of the settings it embeds with, as
                `InferenceSettings.embedding_id` returns it.
            shape: sizes of the model's predictions.
            replace_existing: ignore what the store holds; `remove_replaced` deletes the embeddings
                of the model at the end.

        Raises:
            UserError: a part is damaged.
        """
        self._storage, stored = parts, parts.scan()
        self.rankings = stored.rankings
        found: list[Part] = []
        for part in stored.parts:
            if part.summary is None:
                self._warn_of_deletion(part)
            else:
                found.append(part)
        self.other_ids = {summary_of(part).model for part in found} - {embedding_id, ""}
        earlier = StoreContents(parts, embedding_id, shape, tuple(found), len(found))
        nothing = StoreContents(parts, embedding_id, shape, (), 0)
        self.contents = nothing if replace_existing else earlier
        self.replaced = earlier if replace_existing else nothing

    @property
    def shape(self) -> PredictionShape:
        """Return the sizes of the model's predictions."""
        return self.contents.shape

    @property
    def is_temporary(self) -> bool:
        """Return whether no later run reads the store."""
        return self._storage.is_temporary

    def __len__(self) -> int:
        """Return the number of embeddings."""
        return self.contents.num_embedded

    def append(self, rows: PartRows) -> None:
        """Write a part, unless there are no rows.

        Raises:
            UserError: another run writes the store.
        """
        if not len(rows.table):
            return
        part = self._storage.append(rows.to_parquet())
        self._add([replace(part, summary=rows.summary)])

    def commit(self, files: Sequence[Part]) -> None:
        """Add files of rows that workers have written, in one step.

        Args:
            files: results of `PartFolder.write_file`, with summaries.

        Raises:
            UserError: another run writes the store.
        """
        assert isinstance(self._storage, PartFolder)
        self._storage.commit(files)
        self._add(files)

    def keep_ranking(self, ranking: KeptRanking) -> None:
        """Keep a ranking for the next run, in place of those of the same folders.

        Args:
            ranking: the ranking, whose files are results of `PartFolder.write_file`.

        Raises:
            UserError: another run writes the store.
        """
        self._storage.append(ranking.to_parquet())
        self._remove(
            each for each in self.rankings if each.may_be_of(ranking.queries, ranking.gallery)
        )

    def remove_rankings(self) -> None:
        """Remove the rankings of all folders.

        Raises:
            UserError: another run writes the store.
        """
        self._remove(self.rankings)

    def _remove(self, rankings: Iterable[RankingPart]) -> None:
        removed = tuple(rankings)
        for each in removed:
            assert isinstance(self._storage, PartFolder)
            self._storage.remove_ranking(each)
        self.rankings = tuple(each for each in self.rankings if each not in removed)

    def _add(self, parts: Sequence[Part]) -> None:
        self.contents = replace(self.contents, parts=(*self.contents.parts, *parts))

    def _warn_of_deletion(self, part: Part) -> None:
        deletion = self._storage.read(part, read_rows)
        assert isinstance(deletion, Deletion)
        _logger.warning(
            "a deletion that was begun on %s is not complete: run jobs/forget.py again",
            deletion.begun,
        )
