"""Find the images that a nightly run would embed, and draw a sample of them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidray.config.scoring import ScoreConfig
from reidray.inference.distributed.scoring_engine import ScoringEngine
from reidray.inference.distributed.task_runner import LocalTasks
from reidray.inference.image_batches import BATCH_SIZE, ImageBatch
from reidray.inference.planning.file_timing import draw_sample
from reidray.inference.prediction_loop import prediction_shape
from reidray.models import LoadedModel
from reidray.progress import SHOW_AFTER_SECONDS, Stages
from reidray.scoring.stages.missing_images import (
    LookedUpShard,
    collect_keys,
    count_missing,
    look_up_images,
    split_batches,
)
from reidray.scoring.stages.nightly_images import NightlyImages, list_roles
from reidray.scoring.store.embedding_store import EmbeddingStore
from reidray.scoring.store.legacy_layout import EMBEDDINGS_FOLDER
from reidray.scoring.store.part_storage import PartFolder
from reidray.storage.location import Location
from reidray.storage.locks.exclusive_files import list_entries

log = logging.getLogger("reidray")


@dataclass(frozen=True)
class FoundImages:
    """Hold the images of a nightly run, and those that its store does not know.

    Attributes:
        images: the listings and the store.
        shards: the shards, with the images to embed.
        seconds: seconds of the listing and the lookup, by one process.
    """

    images: NightlyImages
    shards: tuple[LookedUpShard, ...]
    seconds: float

    @property
    def num_missing(self) -> int:
        """Return the number of images to embed."""
        return count_missing(self.shards)

    @property
    def num_slots(self) -> int:
        """Return the crops of the forward passes for these images, which fill every batch."""
        return sum(-(-each.num_missing // BATCH_SIZE) for each in self.shards) * BATCH_SIZE

    def count(self, role: str) -> int:
        """Return the number of images of a role."""
        return self.images.listings[role].num_images

    def draw_batches(self, size: int) -> list[ImageBatch]:
        """Return batches of a sample of the missing images, in random order, the same every time.

        Args:
            size: number of images; all of them where there are fewer.
        """
        chosen = draw_sample(self.num_missing, size)
        batches: list[ImageBatch] = []
        first = 0
        for each in self.shards:
            inside = (chosen >= first) & (chosen < first + each.num_missing)
            if inside.any():
                rows = self.images.read_table(each.missing_file).take(chosen[inside] - first)
                batches += split_batches(self.images, each.shard.role, rows)
            first += each.num_missing
        joined = _joined(batches)
        return [joined[number] for number in np.random.default_rng(0).permutation(len(joined))]


def find_images_to_embed(
    config: ScoreConfig, model: LoadedModel, embedding_id: str, folder: Path
) -> FoundImages:
    """List the images of a nightly run and look them up, in this process.

    Nothing is written into the store.

    Args:
        config: the nightly run.
        model: the model.
        embedding_id: id of the embeddings.
        folder: an empty folder of this machine for working files.

    Raises:
        UserError: a folder is missing or holds no images, or the output cannot hold a file name.
    """
    start, runner, work = time.perf_counter(), LocalTasks(), Location(str(folder / "work"))
    local = ScoringEngine(uses_ray_data=False, runner=runner)
    with Stages() as stages:
        stages.begin(f"listing {config.queries} and {config.gallery}", delay=SHOW_AFTER_SECONDS)
        listings = list_roles(config, work, local.run_listing)
        stages.begin("looking up the images", delay=SHOW_AFTER_SECONDS)
        location = Location(config.store or str(folder / "store"))  # of which none is made
        if list_entries(location, EMBEDDINGS_FOLDER):
            log.warning(
                "the store %s has the layout of an earlier version, which the next run converts: "
                "the plan counts what it holds as new",
                location.uri,
            )
        store = EmbeddingStore(
            PartFolder(location),
            embedding_id,
            prediction_shape(model),
            replace_existing=config.full,
        )
        images = NightlyImages(listings, store.contents, work)
        shards = look_up_images(runner, images, collect_keys(runner, images))
    return FoundImages(images, shards, time.perf_counter() - start)


def _joined(batches: Sequence[ImageBatch]) -> list[ImageBatch]:
    """Return batches with the images of small ones together, as a sample of many shards has."""
    found: list[ImageBatch] = []
    for batch in batches:
        last = found[-1] if found else None
        if last is None or last.set_name != batch.set_name:
            found.append(batch)
            continue
        whole = ImageBatch(
            batch.set_name,
            batch.location,
            last.indices + batch.indices,
            last.paths + batch.paths,
            last.stamps + batch.stamps,
        )
        found[-1] = _part(whole, slice(0, BATCH_SIZE))
        if len(whole.paths) > BATCH_SIZE:
            found.append(_part(whole, slice(BATCH_SIZE, None)))
    return found


def _part(batch: ImageBatch, chosen: slice) -> ImageBatch:
    return ImageBatch(
        batch.set_name,
        batch.location,
        batch.indices[chosen],
        batch.paths[chosen],
        batch.stamps[chosen],
    )
