from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from reidray.data import ingest
from reidray.data.ingest import decode_resident
from reidray.data.storage import Location
from reidray.errors import UserError

SIZE = (8, 6)

pytestmark = pytest.mark.usefixtures("ray_address")


@pytest.fixture
def pictures(tmp_path):
    """Forty images of a grey level each, and a mask whose left columns are the foreground."""
    for number in range(40):
        Image.new("L", (6, 8), 5 * number).save(tmp_path / f"{number}.png")
        trimap = np.full((8, 6), 2, np.uint8)
        trimap[:, : number % 6] = 1
        Image.fromarray(trimap).save(tmp_path / f"{number}.mask.png")
    (tmp_path / "7.mask.png").unlink()
    (tmp_path / "9.mask.png").write_bytes((tmp_path / "9.png").read_bytes())
    (tmp_path / "30.png").write_bytes(b"no picture")
    return tmp_path


def names(kind):
    return [f"{number}{kind}.png" for number in range(40)]


def test_masks_lie_beside_their_crops_and_what_is_bad_is_set_aside(pictures):
    masks: list[str | None] = [*names(".mask")]
    masks[21] = None
    groups = np.arange(40) % 3 - 1
    resident = decode_resident(Location(str(pictures)), names(""), groups, SIZE, masks)
    assert {Path(image.path).stem: image.reason.partition(",")[0] for image in resident.bad} == {
        "7": "mask 7.mask.png: No such file or directory",
        "9": "mask 9.mask.png: values 45",
        "21": "it has no mask",
        "30": "not an image of a known format",
    }
    rows = np.setdiff1d(np.arange(40), [7, 9, 21, 30])
    assert sorted(resident.rows.tolist()) == rows.tolist()
    table = resident.open()
    assert table.gather(rows)[:, 3, 3, 1].tolist() == (5 * rows).tolist()
    assert table.gather_masks(rows).sum(axis=2)[:, 2].tolist() == (rows % 6).tolist()


def test_without_masks_there_are_crops_alone(pictures):
    resident = decode_resident(Location(str(pictures)), names(""), np.arange(40) // 16, SIZE)
    assert [image.path for image in resident.bad] == ["30.png"]
    table = resident.open()
    assert table.gather(table.rows)[:, 0, 0, 0].tolist() == (5 * table.rows).tolist()
    with pytest.raises(ValueError, match="without masks"):
        table.gather_masks(table.rows)


def test_a_group_beyond_the_limit_is_cut_and_loses_no_image(pictures, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP_LIMIT", 7)
    everyone = np.zeros(40, np.int64)
    resident = decode_resident(Location(str(pictures)), names(""), everyone, SIZE)
    sizes = [len(rows) for block in ray.get(list(resident.blocks)) for rows in block["rows"]]
    assert sorted(sizes) == [5, 6, 7, 7, 7, 7]
    assert sorted(resident.rows.tolist()) == np.delete(np.arange(40), 30).tolist()


def test_crops_and_masks_that_the_object_store_cannot_hold_are_refused(pictures):
    held = ray.cluster_resources()["object_store_memory"]
    side = int((0.8 * held / 40 / 4) ** 0.5) + 1
    with pytest.raises(UserError, match="use smaller crops or more memory"):
        decode_resident(
            Location(str(pictures)), names(""), np.arange(40), (side, side), names(".mask")
        )
