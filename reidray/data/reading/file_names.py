"""Read who is on a crop, and which camera took it, from file names such as Market-1501's."""

import posixpath
import re
from dataclasses import dataclass

# 0002_c1s1_000451_03.jpg, -1_c1s1_000401_03.jpg, 0002_c1_016620005.jpg
_NUMBERED = re.compile(r"(?P<person>-1|[0-9]+)_c(?P<camera>[0-9]+)")
# anna_c1s1_000451_03.jpg; not take_cover.jpg or pic_c3po.jpg
_NAMED = re.compile(r"(?P<person>.+?)_c(?P<camera>[0-9]+)(?:s[0-9]+)?(?=[_.-]|$)")
_CAMERA = re.compile(r"_c([0-9]+)")


@dataclass(frozen=True)
class CropName:
    """Person and camera as a file name has them: `0002` and `1` of `0002_c1s1_000451_03.jpg`."""

    person: str
    camera: str


def parse_crop_name(path: str) -> CropName | None:
    """The person and camera that a name such as `0002_c1s1_000451_03.jpg` tells, if it does.

    >>> parse_crop_name("in/anna_c12_000451.jpg")
    CropName(person='anna', camera='12')
    """
    name = posixpath.basename(path)
    found = _NUMBERED.match(name) or _NAMED.match(name)
    return CropName(found["person"], found["camera"]) if found else None


def camera_of(path: str) -> str | None:
    """The camera that a file name such as `0002_c1s1_000451_03.jpg` speaks of, if it does."""
    found = _CAMERA.search(posixpath.basename(path))
    return found[1] if found else None
