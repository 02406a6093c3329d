"""`top_k` over Ray Data sets and files against `top_k` over arrays."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import ray

from reidray.retrieval import DISTANCE_METRICS, distributed, top_k

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_address")]

RANDOM = np.random.default_rng(0)
QUERY = RANDOM.integers(-2, 3, size=(7, 5)).astype(np.float32)
GALLERY = RANDOM.integers(-2, 3, size=(200, 5)).astype(np.float32)  # ties everywhere


def in_blocks(*cuts, gallery=GALLERY):
    """Return a data set with a block between each two cuts."""
    tables = [table_of(part) for part in np.split(gallery, cuts)]
    return ray.data.from_arrow(tables)


def table_of(features):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    return pa.table({"name": [""] * len(features), "embedding": lists})


def assert_same(found, expected):
    for array, other in zip(found, expected, strict=True):
        assert array.dtype == other.dtype
        assert array.shape == other.shape
        assert (array == other).all()


@pytest.mark.parametrize("metric", sorted(DISTANCE_METRICS))
@pytest.mark.parametrize("cuts", [(), (3, 3, 10, 199), (0, 100, 200), range(20, 200, 20)], ids=str)
def test_results_equal_top_k_for_any_blocks(metric, cuts):
    found = distributed.top_k(QUERY, in_blocks(*cuts), 12, metric=metric)
    assert_same(found, top_k(QUERY, GALLERY, 12, metric=metric))


def test_images_beyond_max_distance_are_dropped():
    found = distributed.top_k(QUERY, in_blocks(50, 100), 12, max_distance=2.0)
    assert_same(found, top_k(QUERY, GALLERY, 12, max_distance=2.0))
    assert 0 < (found[1] == -1).mean() < 1


def test_late_blocks_keep_their_position():
    def embed(rows):
        if rows["id"][0] == 0:
            time.sleep(1)
        return {"features": GALLERY[rows["id"]]}

    gallery = ray.data.range(200, override_num_blocks=10).map_batches(embed, batch_size=None)
    context = ray.data.DataContext.get_current()
    for k in (12, 500):
        found = distributed.top_k(QUERY, gallery, k, column="features")
        assert_same(found, top_k(QUERY, GALLERY, k))
    assert not gallery.context.execution_options.preserve_order
    assert not context.execution_options.preserve_order


def test_tensors_of_half_precision_and_features_of_two_scales():
    query = QUERY.astype(np.float16)
    half = ray.data.from_numpy(np.array_split(GALLERY.astype(np.float16) / 8, 4))
    found = distributed.top_k(query, half, 9, column="data", metric="l1")
    assert_same(found, top_k(query, GALLERY.astype(np.float16) / 8, 9, metric="l1"))
    large = GALLERY.copy()
    large[150:] *= np.float32(2.0**70)
    found = distributed.top_k(QUERY, in_blocks(150, gallery=large), 180)
    assert_same(found, top_k(QUERY, large, 180))


def test_more_results_than_a_task_merges_are_merged_in_a_tree():
    gallery = in_blocks(*range(8, 200, 8))
    for k in (12, 500):
        assert_same(distributed.top_k(QUERY, gallery, k), top_k(QUERY, GALLERY, k))


def test_the_first_error_ends_the_search(tmp_path):
    gallery = GALLERY.copy()
    gallery[[5, 8, 190]] = np.nan

    def embed(rows):
        (tmp_path / str(rows["id"][0])).touch()
        time.sleep(0.1)
        return {"embedding": gallery[rows["id"]]}

    dataset = ray.data.range(200, override_num_blocks=100).map_batches(embed, batch_size=None)
    with pytest.raises(ValueError, match=r"^`gallery` row 5 holds NaN"):
        distributed.top_k(QUERY, dataset, 3)
    assert 0 < len(list(tmp_path.iterdir())) < 80


@pytest.fixture
def folder(tmp_path):
    """Return a folder of three files, one of them empty, with more pieces than tasks."""
    table = table_of(GALLERY)
    pyarrow.feather.write_feather(table[:90], tmp_path / "1.feather", chunksize=4)
    pq.write_table(table[:0], tmp_path / "2.parquet")
    pq.write_table(table[90:], tmp_path / "3.parquet", row_group_size=7)
    return tmp_path


def test_files_are_searched_as_one_gallery(folder):
    assert_same(distributed.top_k(QUERY, folder, 12), top_k(QUERY, GALLERY, 12))
    swapped = [folder / "3.parquet", folder / "1.feather"]
    expected = top_k(QUERY, np.concatenate([GALLERY[90:], GALLERY[:90]]), 12)
    assert_same(distributed.top_k(QUERY, swapped, 12), expected)


def changed(row, value):
    gallery = GALLERY.copy()
    gallery[row, 1] = value
    return gallery


@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        (
            lambda: in_blocks(40, 90, gallery=changed(117, np.nan)),
            "`gallery` row 117 holds NaN, infinity or more than float32 can hold",
        ),
        (
            lambda: in_blocks(90, gallery=GALLERY[:, :3].copy()),
            "`gallery` row 0 has 3 values: expected the query's 5",
        ),
        (
            lambda: ray.data.from_arrow([table_of(GALLERY[:9]), table_of(GALLERY[:9, :3].copy())]),
            "`gallery` row 9 has 3 values: expected the query's 5",
        ),
        (
            lambda: ray.data.from_arrow([pa.table({"embedding": [[1.0] * 5] * 3 + [None]})] * 2),
            "`gallery` row 3 is null: expected 5 numbers",
        ),
        (
            lambda: in_blocks(40).rename_columns({"embedding": "features"}),
            "`gallery` has no column 'embedding': expected one of its columns, name, features",
        ),
        (
            lambda: in_blocks(40).map_batches(lambda rows: {"other": rows["name"]}),
            "`gallery` has no column 'embedding': expected one of its columns, other",
        ),
        (
            lambda: ray.data.from_items([{"embedding": "a"}]),
            "`gallery` column holds string: expected lists of 5 numbers",
        ),
        (
            lambda: in_blocks().filter(lambda row: row["name"] == "nobody"),
            "`gallery` holds no images: expected at least one",
        ),
    ],
)
def test_an_invalid_data_set_is_refused_with_its_row(gallery, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared in full
        distributed.top_k(QUERY, gallery(), 3)
    assert str(caught.value) == message


def test_invalid_files_are_refused_with_file_or_row(folder):
    with pytest.raises(ValueError, match=r"1\.feather has no column 'x': .*, name, embedding$"):
        distributed.top_k(QUERY, folder, 3, column="x")
    with pytest.raises(ValueError, match=r"^`gallery` holds no images"):
        distributed.top_k(QUERY, folder / "2.parquet", 3)
    pq.write_table(table_of(changed(5, np.inf)), folder / "2.parquet")
    with pytest.raises(ValueError, match=r"^`gallery` row 95 holds NaN, infinity"):
        distributed.top_k(QUERY, folder, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "`k` is 0: expected at least 1"),
        ({"metric": "hamming"}, "`metric` is 'hamming'"),
        ({"memory_mb": 0}, "`memory_mb` is 0: expected at least 1"),
        ({"query": QUERY[0]}, r"`query` has shape \(5,\)"),
        ({"query": QUERY * np.nan}, "`query` row 0 holds NaN"),
        ({"gallery": GALLERY}, "`gallery` is a ndarray: expected"),
        ({"gallery": 3}, "`gallery` is a int: expected"),
    ],
)
def test_an_invalid_argument_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        distributed.top_k(**{"query": QUERY, "gallery": "nowhere", "k": 1, **wrong})
