"""Recognise image files by the suffixes of their names and by their first bytes."""

import posixpath
import re
from types import MappingProxyType

FORMATS = MappingProxyType(
    {
        "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        "PNG": (".png", ".apng"),
        "WEBP": (".webp",),
        "BMP": (".bmp", ".dib"),
        "TIFF": (".tif", ".tiff"),
        "GIF": (".gif",),
        "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        "AVIF": (".avif", ".avifs"),
        "QOI": (".qoi",),
    }
)
"""The suffixes of each format that is read, by its name in Pillow.

Pillow knows more formats. They are not read: some start other programs (EPS), some depend on
plugins (HDF5, GRIB), and some have no signature (TGA), so that any broken file might be one.
"""

IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

OTHER_SUFFIXES = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini"),
        *(".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".log"),
        *(".mat", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".safetensors", ".onnx"),
        *(".h5", ".hdf5", ".parquet", ".arrow", ".feather", ".db", ".sqlite", ".lmdb", ".mdb"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".dvc", ".md5", ".sha256"),
        *(".py", ".m", ".sh", ".ipynb", ".bat", ".exe", ".dll", ".so", ".lnk", ".url", ".lock"),
        *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".wav", ".mp3"),
        *(".part", ".partial", ".tmp", ".crdownload", ".swp"),
        *(".eps", ".ps", ".svg", ".psd", ".tga", ".pcx", ".ico", ".heic", ".heif", ".jxl", ".exr"),
    )
)
"""Suffixes of files that are not images of these formats. Their first bytes are not read."""

_KNOWN_SUFFIXES = IMAGE_SUFFIXES | OTHER_SUFFIXES

HEAD_BYTES = 32
"""Number of first bytes that show whether a file is an image of these formats."""

_HEADS = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n"
    rb"|RIFF.{4}WEBP"
    rb"|BM.{4}\x00{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00{3}"
    rb"|II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"  # TIFF and BigTIFF
    rb"|GIF8[79]a"
    rb"|P[1-6]\s+[0-9#]"
    rb"|\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"  # JPEG 2000, with and without boxes
    rb"|.{4}ftypavi[fs]"
    rb"|qoif",
    re.DOTALL,
)
_TILE_START, _STREAM_END = b"\xff\x90", b"\xff\xd9"


def suffix_of(path: str) -> str:
    """Return the suffix of a file name in lower case, with its dot; empty where it has none."""
    return posixpath.splitext(path)[1].lower()


def is_image_name(path: str) -> bool:
    """Return whether a file has the suffix of an image."""
    return suffix_of(path) in IMAGE_SUFFIXES


def may_be_image(path: str) -> bool:
    """Return whether a file has an unknown suffix, so that only its first bytes can show."""
    return suffix_of(path) not in _KNOWN_SUFFIXES


def is_image_head(head: bytes) -> bool:
    """Return whether the first `HEAD_BYTES` bytes of a file are those of an image."""
    return _HEADS.match(head) is not None


def is_truncated_jpeg2000(data: bytes) -> bool:
    """Return whether a JPEG 2000 file lacks the end of its stream.

    The decoder fills the missing part with grey and raises no error. Neither of the two markers
    occurs within compressed data.
    """
    if not data.startswith((b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")):
        return False
    start = data.rfind(_TILE_START)
    return start < 0 or data.find(_STREAM_END, start) < 0
