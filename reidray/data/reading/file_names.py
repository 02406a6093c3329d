"""Parse the person and the camera of a crop from its file name, as Market-1501 writes them."""

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
    """Hold the person and the camera that a file name contains.

    Attributes:
        person: the text of the person, such as `0002` in `0002_c1s1_000451_03.jpg`.
        camera: the text of the camera, such as `1` in the same name.
    """

    person: str
    camera: str


def parse_crop_name(path: str) -> CropName | None:
    """Parse the person and camera from a file name; return None if it does not contain them.

    >>> parse_crop_name("in/anna_c12_000451.jpg")
    CropName(person='anna', camera='12')
    """
    name = posixpath.basename(path)
    found = _NUMBERED.match(name) or _NAMED.match(name)
    return CropName(found["person"], found["camera"]) if found else None


def camera_of(path: str) -> str | None:
    """Parse the camera from a file name; return None if it does not contain one.

    >>> camera_of("0002_c1s1_000451_03.jpg")
    '1'
    """
    found = _CAMERA.search(posixpath.basename(path))
    return found[1] if found else None
