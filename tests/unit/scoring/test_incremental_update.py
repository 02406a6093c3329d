"""The parts that a nightly run writes while it embeds, and what it looks up without a store."""

import hashlib

import numpy as np
import pytest

from reidray.errors import UserError
from reidray.inference.image_batches import BatchPredictions, ImageSet, plan_batches
from reidray.inference.predictions import PredictionShape
from reidray.scoring.incremental_update import IncrementalUpdate, KnownImages, folder_of
from reidray.scoring.store.embedding_store import (
    EmbeddingStore,
    open_parts,
    open_temporary_parts,
)
from reidray.scoring.store.part_storage import PartFolder
from reidray.storage.location import Location

SHAPE = PredictionShape(2, 1)


@pytest.fixture(autouse=True)
def parts_of_64_images(monkeypatch):
    monkeypatch.setattr("reidray.scoring.incremental_update.PART_ROWS", 64)


def image_set(folder, count):
    return ImageSet("gallery", Location(str(folder)), tuple(f"{n:04}.jpg" for n in range(count)))


def open_store(parts, images):
    return EmbeddingStore(parts, "m", SHAPE, [folder_of(images)])


def embed(batch):
    """Predict the index of each image; every tenth does not decode."""
    decoded = np.array([place for place, index in enumerate(batch.indices) if index % 10])
    predictions = SHAPE.empty(len(decoded))
    predictions.embeddings[:] = np.array(batch.indices)[decoded, None]
    predictions.attribute_labels[:] = 0
    predictions.uncertainty[:] = 0
    digests = tuple(hashlib.sha256(path.encode()).digest() for path in batch.paths)
    bad = {place: "no image" for place in range(len(batch.paths)) if place not in decoded}
    return BatchPredictions(batch, digests, decoded, predictions, bad, 0)


def test_every_part_is_there_at_the_end_in_the_order_of_the_embedding(tmp_path):
    images = image_set(tmp_path / "images", 300)
    with open_parts(str(tmp_path / "store")) as parts:
        store = open_store(parts, images)
        known = KnownImages(images, store)
        with IncrementalUpdate(store, [known]) as update:
            for batch in plan_batches(images, known.missing(store)):
                update.add([embed(batch)])
            update.finish()
            assert update.num_embedded == len(store) == 270
        located = known.locate(store)
        assert [image.path for image in located.bad] == list(images.paths[::10])
        for places, predictions in store.read_rows(located.rows):
            assert predictions.embeddings[:, 0].tolist() == located.indices[places].tolist()
    assert len(list((tmp_path / "store" / "parts").iterdir())) == 5


def test_a_part_that_cannot_be_written_ends_the_update_at_the_next_one(tmp_path):
    images = image_set(tmp_path / "images", 300)
    late, other = (open_store(PartFolder(Location(str(tmp_path))), images) for _ in range(2))
    known = KnownImages(images, late)
    results = [embed(batch) for batch in plan_batches(images, known.missing(late))]
    with IncrementalUpdate(other, [known]) as update:
        update.add(results[:1])
        update.finish()
    with IncrementalUpdate(late, [known]) as update:
        update.add(results[:1])
        with pytest.raises(UserError, match="another run began to write it"):
            update.add(results[1:2])
    assert len(late) == 0


def test_a_run_without_a_store_reads_no_stamps(tmp_path):
    images = image_set(tmp_path / "there are none", 3)
    with open_temporary_parts(tmp_path) as parts:
        store = open_store(parts, images)
        with IncrementalUpdate(store, [known := KnownImages(images, store)]) as update:
            update.add([embed(batch) for batch in plan_batches(images, known.missing(store))])
            update.finish()
        assert known.locate(store).indices.tolist() == [1, 2]
