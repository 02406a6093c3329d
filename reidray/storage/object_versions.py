"""Find and delete old versions of objects, delete markers and unfinished uploads.

A bucket with versioning keeps the contents of objects that were replaced or deleted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.object_store import call_s3, iter_pages
from reidray.storage.paths import key_of

DELETED_AT_ONCE = 1000


@dataclass(frozen=True)
class ObjectVersion:
    """Hold a version of an object, or a delete marker.

    Attributes:
        path: the path of the object, relative to the location.
        version: the id of the version.
        is_marker: whether it is a delete marker.
        is_current: whether a reader of the object gets this version.
    """

    path: str
    version: str
    is_marker: bool
    is_current: bool


@dataclass(frozen=True)
class Upload:
    """Hold an unfinished multipart upload. The store keeps its parts.

    Attributes:
        path: the path of the object, relative to the location.
        upload: the id of the upload.
    """

    path: str
    upload: str


def list_versions(location: Location) -> list[ObjectVersion]:
    """Return every version of every object of a location, and every delete marker.

    Empty objects whose keys end in `/`, which some tools make for folders, are left out.

    Raises:
        UserError: the store refuses to list versions, or failed.
    """
    root = _root(location)
    with _needs(location, "s3:ListBucketVersions", "the old versions of its files be listed"):
        pages = list(
            iter_pages(
                location.uri,
                "list_object_versions",
                ("KeyMarker", "VersionIdMarker"),
                Prefix=root,
            )
        )
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
    """Delete versions permanently; delete markers last, so that no object reappears meanwhile.

    Raises:
        UserError: the store refuses to delete versions, or failed.
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
    """Return the unfinished multipart uploads below a location.

    Raises:
        UserError: the store refuses to list uploads, or failed.
    """
    root = _root(location)
    right = "s3:ListBucketMultipartUploads"
    with _needs(location, right, "unfinished uploads be listed"):
        pages = list(
            iter_pages(
                location.uri,
                "list_multipart_uploads",
                ("KeyMarker", "UploadIdMarker"),
                Prefix=root,
            )
        )
    return [
        Upload(entry["Key"].removeprefix(root), entry["UploadId"])
        for page in pages
        for entry in page.get("Uploads", [])
        if entry["Key"].startswith(root)
    ]


def abort_uploads(location: Location, uploads: Sequence[Upload]) -> None:
    """Abort unfinished uploads, which deletes their parts.

    Raises:
        UserError: the store refuses to abort uploads, or failed.
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


def _root(location: Location) -> str:
    """Return the prefix of all keys below a location."""
    return key_of(location.join("x").uri)[:-1]


@contextmanager
def _needs(location: Location, right: str, what: str) -> Iterator[None]:
    """Turn errors of a request into a `UserError` that names the permission it needs."""
    try:
        yield
    except PermissionError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{location.uri}: the object store does not let {what} ({reason}), so the data to "
            f"forget may still be there: grant {right} and run it again"
        ) from None
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{location.uri}: the object store failed ({reason}); check the address and the AWS_ "
            "variables, and run it again"
        ) from None
