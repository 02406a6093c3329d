"""Find the rows of a store that a deletion removes, and count them."""

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from unicodedata import normalize

import pyarrow as pa
import pyarrow.compute as pc

from reidray.config.scoring import ForgetConfig
from reidray.scoring.store.part_file import (
    DIGEST,
    NO_DIGESTS,
    Deletion,
    PartRows,
    embedded_digests,
)
from reidray.scoring.store.person_images import find_images_of


def plan_deletion(
    config: ForgetConfig, parts: Sequence[PartRows], num_rankings: int
) -> Deletion | None:
    """Find the images and embeddings that a configuration names, and count them.

    Args:
        config: the deletion.
        parts: contents of the store, with the columns of the images and `doubt`.
        num_rankings: number of kept rankings that the deletion removes.

    Returns:
        None where the store holds nothing of the kind.

    Raises:
        UserError: a folder with the name of the person may be something else.
    """
    before = config.before or ""
    digests = _digests_before(before, parts) if before else _digests_of(config, parts)
    begun = datetime.now(UTC).isoformat(timespec="microseconds")
    deletion = Deletion(config.kind, before, 0, 0, 0, begun, digests, num_rankings)
    images: set[str] = set()
    num_embeddings, num_files = 0, 0
    for rows in parts:
        images.update(deleted_addresses(deletion, rows))
        num_embeddings += pc.sum(deletion.deletes_embedding(rows)).as_py() or 0
        num_files += deletion.affects(rows)
    if not images and not num_embeddings:
        return None
    return replace(deletion, images=len(images), embeddings=num_embeddings, files=num_files)


def deleted_addresses(deletion: Deletion, rows: PartRows) -> list[str]:
    """Return the addresses of the images of a part that a deletion removes."""
    deleted = rows.table.filter(deletion.deletes_image(rows))
    folders, paths = deleted["folder"].to_pylist(), deleted["path"].to_pylist()
    return [posixpath.join(folder, path) for folder, path in zip(folders, paths, strict=True)]


def _digests_of(config: ForgetConfig, parts: Sequence[PartRows]) -> pa.Array:
    """Return the digests of an image, or of the images of a person."""
    found: set[bytes] = set()
    for rows in parts:
        folders, paths = rows.table["folder"].to_pylist(), rows.table["path"].to_pylist()
        if config.person is not None:
            chosen = find_images_of(config.person, folders, paths)
        else:
            image = normalize("NFC", config.image or "")
            chosen = [
                image in (normalize("NFC", path), normalize("NFC", posixpath.join(folder, path)))
                for folder, path in zip(folders, paths, strict=True)
            ]
        found.update(rows.table["content"].filter(pa.array(chosen, pa.bool_())).to_pylist())
    return pa.array(sorted(found), DIGEST)


def _digests_before(day: str, parts: Sequence[PartRows]) -> pa.Array:
    """Return the digests of earlier days that have no embedding of a later day.

    The images of these digests are deleted with their embeddings.
    """
    earlier, kept = [NO_DIGESTS], [NO_DIGESTS]
    for rows in parts:
        if rows.day < day:
            earlier.append(rows.table["content"].combine_chunks())
        else:
            kept.append(embedded_digests(rows))
    digests = pa.concat_arrays(earlier)
    return pc.unique(digests.filter(pc.invert(pc.is_in(digests, pa.concat_arrays(kept)))))
