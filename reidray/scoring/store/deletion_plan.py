"""Find the rows of a store that are to be forgotten, and count them."""

import posixpath
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from reidray.config.scoring import ForgetConfig
from reidray.scoring.store.part_file import DIGEST, NO_DIGESTS, Deletion, PartRows
from reidray.scoring.store.person_images import find_images_of


def plan_deletion(config: ForgetConfig, parts: Sequence[PartRows]) -> Deletion | None:
    """Find what is to be forgotten, and count it.

    Args:
        config: what was asked for.
        parts: of the store, with the images' columns and `doubt`.

    Returns:
        None where the store holds nothing of the kind.

    Raises:
        UserError: a folder that is called as the person is may be something else.
    """
    before = config.before or ""
    contents = _contents_before(before, parts) if before else _contents_named(config, parts)
    begun = datetime.now(UTC).isoformat(timespec="microseconds")
    deletion = Deletion(config.kind, before, 0, 0, 0, begun, contents)
    images: set[str] = set()
    embeddings, files = 0, 0
    for rows in parts:
        images.update(names_going(deletion, rows))
        embeddings += pc.sum(deletion.deletes_embedding(rows)).as_py() or 0
        files += deletion.affects(rows)
    if not images and not embeddings:
        return None
    return Deletion(config.kind, before, len(images), embeddings, files, begun, contents)


def names_going(deletion: Deletion, rows: PartRows) -> list[str]:
    """The addresses of the images of a part that are to be forgotten."""
    going = rows.table.filter(deletion.deletes_image(rows))
    names = zip(going["folder"].to_pylist(), going["path"].to_pylist(), strict=True)
    return [posixpath.join(folder, path) for folder, path in names]


def _contents_named(config: ForgetConfig, parts: Sequence[PartRows]) -> pa.Array:
    """The contents of an image, or of the images of a person."""
    found: set[bytes] = set()
    for rows in parts:
        folders, paths = (rows.table[name].to_pylist() for name in ("folder", "path"))
        if config.person is not None:
            meant = find_images_of(config.person, folders, paths)
        else:
            addresses = zip(folders, paths, strict=True)
            meant = [config.image in (path, posixpath.join(at, path)) for at, path in addresses]
        found.update(rows.table["content"].filter(pa.array(meant, pa.bool_())).to_pylist())
    return pa.array(sorted(found), DIGEST)


def _contents_before(day: str, parts: Sequence[PartRows]) -> pa.Array:
    """Contents seen before a day of which no embedding is left: their names shall go as well."""
    old, left = [NO_DIGESTS], [NO_DIGESTS]
    for rows in parts:
        contents = rows.table["content"].combine_chunks()
        if rows.day < day:
            old.append(contents)
        else:
            left.append(contents.filter(rows.embedded))
    seen = pa.concat_arrays(old)
    return pc.unique(seen.filter(pc.invert(pc.is_in(seen, pa.concat_arrays(left)))))
