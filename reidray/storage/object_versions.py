"""Old versions of objects, marks of deletion and unfinished uploads: found and removed.

A bucket that keeps versions still has what was replaced or deleted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.object_store import call_s3, key_of

DELETED_AT_ONCE = 1000


@dataclass(frozen=True)
class ObjectVersion:
    """A version of an object, or a mark that says it was deleted.

    Attributes:
        path: of the object, relative to the location.
        version: names the version.
        is_marker: whether it is a mark of deletion.
        is_current: whether it is what a reader of the object gets.
    """

    path: str
    version: str
    is_marker: bool
    is_current: bool


@dataclass(frozen=True)
class Upload:
    """An upload in pieces that did not end; the store keeps its pieces.

    Attributes:
        path: of the object, relative to the location.
        upload: names the upload.
    """

    path: str
    upload: str


def list_versions(location: Location) -> list[ObjectVersion]:
    """Return every version of every object of a location, and every mark of deletion.

    Empty objects whose keys end in `/`, which some tools make for folders, are left out.

    Raises:
        UserError: the store does not let versions be listed.
        OSError: the store failed.
    """
    root = _root(location)
    with _needs(location, "s3:ListBucketVersions", "the old versions of its files be listed"):
        pages = list(_pages(location, "list_object_versions", ("KeyMarker", "VersionIdMarker")))
    return [
        ObjectVersion(
            entry["Key"].removeprefix(root),
            entry["VersionId"],
            kind == "DeleteMarkers",
            bool(entry["IsLatest"]) and kind == "Versions",
        )
        for page in pages
        for kind in ("Versions", "DeleteMarkers")
        for entry in page.get(kind, [])
        if not (entry["Key"].endswith("/") and entry.get("Size", 0) == 0)
    ]


def delete_versions(location: Location, versions: Sequence[ObjectVersion]) -> None:
    """Remove versions for good; marks of deletion last, so that nothing comes back meanwhile.

    Raises:
        UserError: the store does not let versions be removed.
        OSError: the store failed.
    """
    root = _root(location)
    ordered = sorted(versions, key=lambda version: version.is_marker)
    marks = sum(version.is_marker for version in ordered)
    for kind in (ordered[: len(ordered) - marks], ordered[len(ordered) - marks :]):
        for start in range(0, len(kind), DELETED_AT_ONCE):
            names = [
                {"Key": root + version.path, "VersionId": version.version}
                for version in kind[start : start + DELETED_AT_ONCE]
            ]
            _delete(location, names)


def list_uploads(location: Location) -> list[Upload]:
    """Return the uploads under a location that did not end.

    Raises:
        UserError: the store does not let uploads be listed.
        OSError: the store failed.
    """
    root = _root(location)
    right = "s3:ListBucketMultipartUploads"
    with _needs(location, right, "unfinished uploads be listed"):
        pages = list(_pages(location, "list_multipart_uploads", ("KeyMarker", "UploadIdMarker")))
    return [
        Upload(entry["Key"].removeprefix(root), entry["UploadId"])
        for page in pages
        for entry in page.get("Uploads", [])
        if entry["Key"].startswith(root)
    ]


def abort_uploads(location: Location, uploads: Sequence[Upload]) -> None:
    """Remove what was uploaded of objects that never appeared.

    Raises:
        UserError: the store does not let this be done.
        OSError: the store failed.
    """
    root = _root(location)
    for upload in uploads:
        with _needs(location, "s3:AbortMultipartUpload", "unfinished uploads be removed"):
            names = {"Key": root + upload.path, "UploadId": upload.upload}
            call_s3(location.uri, "abort_multipart_upload", **names)


def _delete(location: Location, names: Sequence[dict[str, str]]) -> None:
    with _needs(location, "s3:DeleteObjectVersion", "the old versions of its files be removed"):
        delete = {"Objects": list(names), "Quiet": True}
        answer = call_s3(location.uri, "delete_objects", Delete=delete)
        for error in answer.get("Errors", []):
            if error.get("Code") == "AccessDenied":
                raise PermissionError(error.get("Message"))
            raise OSError(f"{location.uri}: {error.get('Key')}: {error.get('Message')}")


def _pages(location: Location, method: str, markers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The answers to a listing, one after the other."""
    more: dict[str, Any] = {}
    while True:
        page = call_s3(location.uri, method, Prefix=_root(location), **more)
        yield page
        if not page.get("IsTruncated"):
            return
        more = {name: page[f"Next{name}"] for name in markers if page.get(f"Next{name}")}


def _root(location: Location) -> str:
    """Return the prefix of the keys of a location."""
    return key_of(location.join("x").uri)[:-1]


@contextmanager
def _needs(location: Location, right: str, what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{location.uri}: the object store does not let {what} ({reason}), so what is to be "
            f"forgotten may still be there: grant {right} and run it again"
        ) from None
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{location.uri}: the object store failed ({reason}); check the address and the AWS_ "
            "variables, and run it again"
        ) from None
