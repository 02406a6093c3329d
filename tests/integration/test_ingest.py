from pathlib import Path

import numpy as np
import pytest
import ray
from support.gray_images import SIZE, draw_gray_images, image_files
from support.labels import make_labels

from reidray.data.ingest.mode import choose_ingest_mode, ingest
from reidray.errors import UserError
from reidray.training.execution.ray_trainer import RayEngine

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_address")]


@pytest.fixture
def image_folder(tmp_path):
    return draw_gray_images(tmp_path)


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_masks_come_beside_their_crops_and_what_is_bad_is_set_aside(image_folder, mode):
    masks = [f"{number}.mask.png" for number in range(40)]
    masks[21] = None
    crops = ingest(image_files(image_folder, groups=np.arange(40) % 3 - 1, masks=masks), mode)
    assert {Path(image.path).stem: image.reason.partition(",")[0] for image in crops.bad} == {
        "7": "mask 7.mask.png: No such file or directory",
        "9": "mask 9.mask.png: values 45",
        "21": "it has no mask",
        "30": "not an image of a known format",
    }
    rows = np.setdiff1d(np.arange(40), [7, 9, 21, 30])
    assert np.flatnonzero(crops.decoded).tolist() == rows.tolist()
    (group,) = crops.open().read([rows])
    assert group.crops[:, 3, 3, 1].tolist() == (5 * rows).tolist()
    assert group.masks.sum(axis=2)[:, 2].tolist() == (rows % 6).tolist()


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_without_masks_there_are_crops_alone(image_folder, mode):
    crops = ingest(image_files(image_folder), mode)
    assert [image.path for image in crops.bad] == ["30.png"]
    (decoded,) = crops.decoded.nonzero()
    (group,) = crops.open().read([decoded])
    assert group.crops[:, 0, 0, 0].tolist() == (5 * decoded).tolist()
    assert group.masks is None


def test_both_modes_give_the_requested_batches_in_order(image_folder):
    random = np.random.default_rng(3)
    rows = np.delete(np.arange(40), 30)
    batches = [random.choice(rows, random.integers(1, 12)) for _ in range(50)]
    crops = [ingest(image_files(image_folder), mode) for mode in ("resident", "stream")]
    resident, stream = (list(each.open().read(batches)) for each in crops)
    assert len(resident) == len(stream) == 50
    for batch, kept, streamed in zip(batches, resident, stream, strict=True):
        assert kept.indices.tolist() == streamed.indices.tolist() == batch.tolist()
        assert np.array_equal(kept.crops, streamed.crops)
    for each in crops:
        sampled = [group.crops for group in each.sample(batches[:2])]
        assert all(map(np.array_equal, sampled, [group.crops for group in resident[:2]]))


def test_a_streamed_image_that_is_lost_on_the_way_stops_with_its_name(image_folder):
    crops = ingest(image_files(image_folder), "stream")
    (image_folder / "12.png").unlink()
    with pytest.raises(UserError, match=r"12\.png does not decode any more \(No such file"):
        list(crops.open().read([np.arange(20)]))


def test_a_group_beyond_the_limit_is_cut_and_loses_no_image(image_folder, monkeypatch):
    monkeypatch.setattr("reidray.data.ingest.image_files.GROUP_LIMIT", 7)
    crops = ingest(image_files(image_folder, groups=np.zeros(40, np.int64)), "resident")
    sizes = [len(rows) for block in ray.get(list(crops.blocks)) for rows in block["indices"]]
    assert sorted(sizes) == [5, 6, 7, 7, 7, 7]
    assert np.flatnonzero(~crops.decoded).tolist() == [30]


def test_the_mode_is_chosen_by_size_and_logged_with_the_numbers(image_folder, caplog):
    caplog.set_level("INFO", logger="reidray")
    held = ray.cluster_resources()["object_store_memory"]
    side = int((0.8 * held / 40 / 4) ** 0.5) + 1
    small = image_files(image_folder)
    large = image_files(image_folder, size=(side, side), masks=["a.png"] * 40)
    ways = [
        choose_ingest_mode(*asked)
        for asked in ((small, "auto"), (small, "stream"), (large, "auto"))
    ]
    assert ways == ["resident", "stream", "stream"]
    assert f"ingest stream: 40 crops of {side}x{side} take" in caplog.text
    assert f"a node's object store holds {held / 1e9:.2f} GB" in caplog.text
    with pytest.raises(UserError, match=r"take .* GB and .* holds .* GB: use `ingest=stream`"):
        choose_ingest_mode(large, "resident")


def test_indices_are_those_of_the_paths(image_folder):
    chosen = image_files(image_folder, numbers=[3, 8, 30, 5], groups=np.zeros(4, np.int64))
    assert list(chosen.paths) == ["3.png", "8.png", "30.png", "5.png"]
    crops = ingest(chosen, "stream")
    assert crops.decoded.tolist() == [True, True, False, True]
    (group,) = crops.open().read([np.array([3, 0])])
    assert group.crops[:, 0, 0, 0].tolist() == [25, 15]
    assert group.crops.shape == (2, *SIZE, 3)


def test_a_worker_maps_resident_crops_and_copies_none(image_folder):
    def own_megabytes():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000

    crops = ingest(image_files(image_folder, size=(1024, 1024)), "resident")
    before = own_megabytes()
    table = crops.open()
    assert own_megabytes() - before < 12  # of 123
    (group,) = table.read([np.array([4])])
    assert group.crops[0, 500, 500].tolist() == [20] * 3


def test_the_driver_and_the_workers_map_the_labels_and_the_index_of_the_people():
    labels = make_labels(np.arange(40_000) % 900)
    assert labels.num_people == 900  # indexes the people, as the log of a training does
    shared = RayEngine().share({"train": labels})
    assert list(shared) == ["train"]

    def look(shared):
        found = shared["train"]
        arrays = found.indices, found.person_ids, found.camera_ids, *vars(found.people).values()
        return [array.flags.writeable for array in arrays], "people" in vars(found)

    assert look(shared) == ray.get(ray.remote(look).remote(shared)) == ([False] * 6, True)
