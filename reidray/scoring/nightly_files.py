"""Write the files of a nightly run, but for its summary."""

from pathlib import Path

from reidray.config.scoring import ScoreConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.reading.annotations import write_annotations
from reidray.inference.distributed.task_runner import TaskRunner
from reidray.inference.runs.quarantine import write_quarantine
from reidray.models import LoadedModel
from reidray.scoring.gallery_ranking import GalleryRanking
from reidray.scoring.scoring_paths import (
    ATTRIBUTE_FILE,
    DISTRACTOR_FILE,
    QUARANTINE_FILE,
    RANKING_FILE,
)
from reidray.scoring.stages.distractor_files import write_distractor_chunks
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.output_chunks import (
    join_chunks,
    write_attribute_chunk,
    write_quarantine_chunk,
)


def write_nightly_files(
    folder: Path,
    model: LoadedModel,
    runner: TaskRunner,
    images: NightlyImages,
    ranked: GalleryRanking,
    config: ScoreConfig,
) -> None:
    """Write the ranking, the attributes, the distractor scores and the quarantine.

    Args:
        folder: a folder without these files.
        model: the model of the run.
        runner: runs the tasks, one for each shard of the gallery.
        images: the images of the run.
        ranked: the results.
        config: `keep_missing`, `attribute_neighbours` and `distractor_scores` apply.
    """
    work, shared = images.work, runner.share(images)
    join_chunks(work, (block.file for block in ranked.blocks), folder / RANKING_FILE)
    gallery = ranked.located["gallery"]
    if predicts_pedestrian_attributes(model):
        voted = runner.share(ranked.neighbours if config.attribute_neighbours > 1 else None)
        chunks = runner.run(write_attribute_chunk, gallery, shared, voted, config.keep_missing)
        join_chunks(work, chunks, folder / ATTRIBUTE_FILE, write_annotations([]))
    if config.distractor_scores and ranked.scored is not None:
        chunks = write_distractor_chunks(runner, shared, ranked.scored)
        join_chunks(work, chunks, folder / DISTRACTOR_FILE)
    bad = [each for shards in ranked.located.values() for each in shards if each.num_bad]
    chunks = runner.run(write_quarantine_chunk, bad, shared)
    join_chunks(work, chunks, folder / QUARANTINE_FILE, write_quarantine({}))


def predicts_pedestrian_attributes(model: LoadedModel) -> bool:
    """Return whether the model's attributes are those of `classification_test.csv`."""
    return model.architecture.schema == PEDESTRIAN_SCHEMA
