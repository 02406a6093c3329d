"""List the images of a folder or a manifest, with what is known of the people on them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from reidray.config.jobs.embedding import NO_LAYOUT, EmbedConfig
from reidray.data.ids import parse_id_number
from reidray.data.layouts import has_layout, read_manifest
from reidray.data.reading.file_names import camera_of, parse_crop_name
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.inference.image_batches import ImageSet
from reidray.storage.location import Location

log = logging.getLogger("reidray")

PERSON, CAMERA, SPLIT = "person", "camera", "split"


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Hold images, and columns of what is known of them.

    Attributes:
        images: N images.
        columns: `person` and `camera` (int64, or the names of people and cameras that have some)
            and `split`, N values each. A column is missing where nothing is known.
    """

    images: ImageSet
    columns: Mapping[str, pa.Array]


def list_labelled_images(config: EmbedConfig) -> LabelledImages:
    """Return the images of the data of a configuration.

    Raises:
        UserError: the data are not usable, or have no image of the splits.
    """
    location = Location(config.data, config.follow_links)
    if config.layout != NO_LAYOUT and (config.layout != "auto" or has_layout(location)):
        return _read_layout(config)
    if config.split or config.root is not None:
        field = "split" if config.split else "root"
        raise UserError(
            f"{location.uri}: is of no known layout, and `{field}` goes with one: leave it out"
        )
    return _read_folder(location)


def _read_layout(config: EmbedConfig) -> LabelledImages:
    manifest = read_manifest(
        config.data, config.layout, root=config.root, follow_links=config.follow_links
    )
    table = manifest.table
    if config.split:
        table = table.filter(pc.is_in(table[SPLIT], value_set=pa.array(config.split)))
    if not table.num_rows:
        raise UserError(f"{manifest.root}: has no images of `split` {', '.join(config.split)}")
    columns = {
        PERSON: _named(table[PERSON], manifest.person_ids),
        CAMERA: _named(table[CAMERA], manifest.camera_ids),
        SPLIT: table[SPLIT].cast(pa.string()).combine_chunks(),
    }
    images = ImageSet("data", manifest.location, tuple(table["path"].to_pylist()))
    return LabelledImages(images, _known(columns))


def _named(numbers: pa.ChunkedArray, names: Mapping[str, int]) -> pa.Array:
    """Return ids as numbers, or as the names for which they stand, which other sets number anew."""
    if not names:
        return numbers.cast(pa.int64()).combine_chunks()
    name_of = {number: name for name, number in names.items()}
    texts = [None if each is None else name_of.get(each, str(each)) for each in numbers.to_pylist()]
    return pa.array(texts, pa.string())


def _read_folder(location: Location) -> LabelledImages:
    """Return all images of a folder, with the people and cameras that file names tell."""
    found = find_images(location)
    crops = [parse_crop_name(path) for path in found.paths]
    people = [None if crop is None else crop.person for crop in crops]
    cameras = [
        camera_of(path) if crop is None else crop.camera
        for path, crop in zip(found.paths, crops, strict=True)
    ]
    known = sum(person is not None for person in people)
    log.info(
        "%s: %d images in no layout, whose names tell the person on %d",
        location.uri,
        len(people),
        known,
    )
    if found.skipped:
        log.info("%s: %s", location.uri, describe_skipped(found.skipped))
    images = ImageSet("data", location, found.paths, found.skipped)
    return LabelledImages(images, _known({PERSON: _ids(people), CAMERA: _ids(cameras)}))


def _ids(texts: Sequence[str | None]) -> pa.Array:
    """Return ids as numbers where all are numbers, else as names.

    >>> _ids(["0002", None]).to_pylist(), _ids(["0002", "anna"]).to_pylist()
    ([2, None], ['2', 'anna'])
    """
    numbers = [None if text is None else parse_id_number(text) for text in texts]
    if all((number is None) == (text is None) for number, text in zip(numbers, texts, strict=True)):
        return pa.array(numbers, pa.int64())
    named = [
        text if number is None else str(number) for number, text in zip(numbers, texts, strict=True)
    ]
    return pa.array(named, pa.string())


def _known(columns: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
    """Return the columns that hold a value."""
    return {name: values for name, values in columns.items() if values.null_count < len(values)}
