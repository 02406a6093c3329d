import numpy as np
import pytest
import torch

from reidray.data import device_crops
from reidray.data.device_copies import rows_to_device, to_device_together
from reidray.data.device_crops import CopiedCrops, GatheredCrops, place_crops
from reidray.data.images.crops import CropGroup, CropTable

CPU = torch.device("cpu")


def build_table(masked=True):
    random = np.random.default_rng(0)
    groups = []
    for indices in ([7, 2], [5], [11, 4, 0, 9]):
        crops = random.integers(0, 256, (len(indices), 6, 4, 3), dtype=np.uint8)
        masks = crops[..., 0] % 2 if masked else None
        groups.append(CropGroup(np.array(indices), crops, masks))
    return CropTable(groups)


BATCHES = [np.array([4, 7, 7, 0]), np.array([2]), np.array([], dtype=np.int64), np.array([9, 11])]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("piece_bytes", [1, 6 * 4 * 4 * 3, 10**9])
def test_crops_gathered_on_a_device_are_those_of_the_table(masked, piece_bytes, monkeypatch):
    monkeypatch.setattr(device_crops, "PIECE_BYTES", piece_bytes)
    table = build_table(masked)
    gathered = list(GatheredCrops(table, CPU).read(BATCHES))
    copied = list(CopiedCrops(table, CPU).read(BATCHES))
    for group, one, other in zip(table.read(BATCHES), gathered, copied, strict=True):
        for batch in (one, other):
            assert batch.images.shape == (len(group.indices), 3, 6, 4)
            assert batch.images.dtype == torch.uint8
            assert np.array_equal(batch.images.permute(0, 2, 3, 1), group.crops)
            assert masked == (batch.masks is not None)
            assert batch.masks is None or np.array_equal(batch.masks, group.masks)


@pytest.mark.parametrize("index", [1, 12, -1])
def test_an_index_without_a_crop_is_named_before_the_first_batch(index):
    crops = GatheredCrops(build_table(), CPU)
    with pytest.raises(KeyError, match=str(index)):
        crops.read([BATCHES[0], np.array([7, index])])
    assert list(crops.read([])) == []


def test_a_batch_is_memory_of_its_own():
    crops = place_crops(build_table(), CPU)
    first, second = crops.read([BATCHES[0], BATCHES[0]])
    first.images.zero_()
    assert second.images.any()


def test_tensors_of_any_type_travel_together():
    values = {
        "flags": torch.tensor([True, False, True]),
        "numbers": torch.arange(6).view(3, 2),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "none": torch.zeros(3, 0),
        "shares": torch.rand(3, 4, dtype=torch.float64)[:, 1:3],
        "halves": torch.rand(3).half(),
    }
    copied = to_device_together(values, CPU)
    assert copied.keys() == values.keys()
    for name, value in values.items():
        assert copied[name].dtype == value.dtype
        assert torch.equal(copied[name], value)


def test_rows_travel_together_and_are_cut_into_batches():
    labels = np.arange(12, dtype=np.int8).reshape(6, 2)
    first, second = rows_to_device(labels[[5, 0, 3]], [2, 1], CPU)
    assert first.tolist() == [[10, 11], [0, 1]]
    assert second.tolist() == [[6, 7]]
