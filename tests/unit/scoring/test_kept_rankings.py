"""A ranking that a store keeps changes no byte of the next one, and is searched in part only."""

import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.store_nights import BAD, rank_night

from reidray.config.scoring import ForgetConfig
from reidray.errors import UserError
from reidray.scoring.kept_rankings import incremental_search
from reidray.scoring.kept_rankings.matched_images import ImageChanges
from reidray.scoring.stages import query_blocks
from reidray.scoring.store.deletion import forget
from reidray.scoring.store.embedding_store import open_parts
from reidray.storage.location import Location
from reidray.storage.locks import exclusive_files

embedding = st.tuples(st.integers(0, 4), st.integers(0, 2))  # many distances are equal
content = st.one_of(embedding, embedding, embedding, st.just(BAD))
paths = st.integers(0, 30).map("{:02d}.jpg".format)
images = st.dictionaries(paths, content, min_size=3, max_size=25)
change = st.dictionaries(paths, st.one_of(st.just("gone"), content), max_size=6)
night = st.tuples(
    change,
    st.dictionaries(paths, st.one_of(st.just("gone"), content), max_size=3),
    st.integers(1, 6),
    st.sampled_from([3, 5, 8]),
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Keep short lists, and rank few queries together."""
    monkeypatch.setattr(incremental_search, "MIN_MARGIN", 2)
    monkeypatch.setattr(query_blocks, "MAX_QUERIES", 3)


def apply(images, changes):
    changed = {name: value for name, value in (images | changes).items() if value != "gone"}
    return changed or images


@given(images, images, st.lists(night, min_size=1, max_size=3))
@settings(max_examples=12)
def test_nights_with_any_changes_have_the_lines_of_a_search_of_the_whole_gallery(
    tmp_path_factory, queries, gallery, nights
):
    folder, before = tmp_path_factory.mktemp("nights"), None
    for number, (of_gallery, of_queries, top_k, shard_rows) in enumerate(nights):
        queries, gallery = apply(queries, of_queries), apply(gallery, of_gallery)
        ranked = rank_night(
            str(folder / "store"),
            folder / str(number),
            {"query": queries, "gallery": gallery},
            top_k=top_k,
            shard_rows=shard_rows,
        )
        assert ranked.lines == ranked.alone
        now = {"query": queries, "gallery": gallery}
        assert ranked.changes == (
            before and {role: changes(before[role], now[role]) for role in now}
        )
        before = now


def changes(before, now):
    common = before.keys() & now.keys()
    return ImageChanges(
        new=len(now.keys() - common),
        changed=sum(now[name] not in (before[name], BAD) for name in common),
        gone=len(before.keys() - common),
    )


GALLERY = {f"{number:02d}.jpg": (number, 0) for number in range(20)}
QUERIES = {f"{number:02d}.jpg": (4 * number, 1) for number in range(4)}


@pytest.fixture
def rank(tmp_path):
    """Return a function that ranks a night, checks its lines and returns the queries searched."""
    nights = iter(range(100))

    def rank(gallery=GALLERY, queries=QUERIES, **options):
        where = str(tmp_path / "store"), tmp_path / f"work{next(nights)}"
        night = {"query": queries, "gallery": gallery}
        ranked = rank_night(*where, night, **({"top_k": 5} | options))
        assert ranked.lines == ranked.alone
        return ranked.num_searched

    return rank


def without(images, *names):
    return {name: value for name, value in images.items() if name not in names}


def test_only_queries_that_are_new_or_lack_images_are_compared_with_the_whole_gallery(rank):
    assert rank() == 4
    new = {"100.jpg": (8, 1), "05.jpg": (20, 1)}
    assert rank(GALLERY | new) == 0
    assert rank(GALLERY | new, QUERIES | {"03.jpg": (7, 1), "99.jpg": (2, 2)}) == 2
    assert rank(top_k=3) == 1  # the query that is as it was at first
    nearest_of_the_first = ("00.jpg", "01.jpg", "02.jpg")
    assert rank(without(GALLERY, *nearest_of_the_first), top_k=3) == 1
    assert rank(without(GALLERY, *nearest_of_the_first), top_k=9) == 4  # the lists are too short


def test_lists_of_a_whole_gallery_that_is_small_need_no_further_search(rank):
    names = list(GALLERY)
    assert rank(without(GALLERY, *names[4:]), top_k=9) == 4
    assert rank(without(GALLERY, names[0], *names[5:]), top_k=9) == 0
    assert rank(top_k=9) == 0


def test_another_metric_or_version_searches_the_whole_gallery(rank, monkeypatch):
    rank()
    assert rank(metric="cosine") == 4
    monkeypatch.setattr(incremental_search, "version", lambda _: "0.0.0")
    assert rank(metric="cosine") == 4
    assert rank(metric="cosine") == 0


def test_what_is_embedded_again_is_searched_again(rank):
    rank()
    assert rank(full=True) == 4
    assert rank() == 0


def test_images_that_are_embedded_again_have_not_changed(tmp_path):
    night = {"query": QUERIES, "gallery": GALLERY}
    found = [
        rank_night(str(tmp_path / "store"), tmp_path / str(full), night, full=full).changes
        for full in (False, True)
    ]
    assert found == [None, dict.fromkeys(night, ImageChanges(new=0, changed=0, gone=0))]


def kept_files(folder):
    """Return the files of rankings in a store, and the parts that list them."""
    found = {}
    for path in sorted(Path(folder, "store").rglob("*.parquet")):
        if path.stat().st_size:
            described = pq.read_schema(path).metadata[b"reidray"]
            if b'"keeps"' in described or b'"ranks"' in described:
                found[path] = described
    return found


def test_a_store_keeps_one_ranking_of_two_folders_readable_by_its_owner_only(rank, tmp_path):
    for _ in range(2):
        rank()
        parts = [path for path, described in kept_files(tmp_path).items() if b"ranks" in described]
        assert len(parts) == 1
        files = kept_files(tmp_path)
        assert len(files) == 1 + 4 + 1 + 2  # shards of 5 images, blocks of 3 queries
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_expanded_queries_keep_no_ranking_and_leave_that_of_other_runs(rank, tmp_path):
    rank(expand=3)
    assert not kept_files(tmp_path)
    rank()
    before = kept_files(tmp_path)
    assert rank(expand=3) is None
    assert kept_files(tmp_path) == before


@pytest.mark.parametrize("damage", [b"", None])
def test_a_ranking_that_lacks_a_file_is_searched_again_with_one_line(
    rank, tmp_path, caplog, damage
):
    rank()
    file = next(path for path in kept_files(tmp_path) if path.parent.name == "files")
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert rank() == 4
    (record,) = [record for record in caplog.records if "last ranking" in record.message]
    assert "all queries are searched again" in record.getMessage()
    assert rank() == 0


@pytest.mark.parametrize("kind", ["query", "gallery", "nearest"])
@pytest.mark.parametrize("damage", ["a bit", "all bytes", "a name"])
def test_a_file_of_a_ranking_with_other_bytes_costs_a_search_and_one_line(
    rank, tmp_path, caplog, kind, damage
):
    rank()
    is_kept = f'"keeps": "{kind}"'.encode()
    file = next(path for path, described in kept_files(tmp_path).items() if is_kept in described)
    data = bytearray(file.stat().st_size if damage == "all bytes" else file.read_bytes())
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    if damage == "a name":
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        data[data.index(column.path_in_schema.encode(), footer)] ^= 8
    else:
        start = column.dictionary_page_offset or column.data_page_offset
        data[start + column.total_compressed_size - 1] ^= 8
    file.write_bytes(data)
    assert rank() == 4
    (record,) = [record for record in caplog.records if "last ranking" in record.message]
    assert record.getMessage().endswith("is damaged; all queries are searched again")
    assert rank() == 0


def test_a_damaged_list_of_the_files_of_a_ranking_costs_a_search_and_one_line(
    rank, tmp_path, caplog
):
    rank()
    (file,) = [path for path, described in kept_files(tmp_path).items() if b'"ranks"' in described]
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    data = bytearray(file.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 8
    file.write_bytes(data)
    assert rank() == 4
    (record,) = [record for record in caplog.records if "last ranking" in record.message]
    assert file.name in record.getMessage()
    assert rank() == 0
    assert not file.stat().st_size


def test_files_of_a_ranking_that_a_killed_run_has_not_listed_are_removed(rank, tmp_path):
    rank()
    kept = kept_files(tmp_path)
    (part,) = [path for path, described in kept.items() if b"ranks" in described]
    part.write_bytes(b"")
    with open_parts(str(tmp_path / "store")):
        assert not kept_files(tmp_path)


def test_a_deletion_removes_all_rankings_and_says_so(rank, tmp_path):
    rank()
    config = ForgetConfig(store=str(tmp_path / "store"), image="07.jpg")
    preview = forget(ForgetConfig(store=config.store, image=config.image, dry_run=True))
    assert preview["rankings"] == 1
    assert kept_files(tmp_path)
    assert forget(config)["rankings"] == 1
    assert not kept_files(tmp_path)
    log = (tmp_path / "store" / "forgotten.jsonl").read_text()
    assert '"rankings": 1' in log
    assert rank(without(GALLERY, "07.jpg"), without(QUERIES, "07.jpg")) == 4


def test_a_deletion_of_an_unknown_image_leaves_no_ranking_either(rank, tmp_path):
    rank()
    with pytest.raises(UserError, match="holds no image of this name"):
        forget(ForgetConfig(store=str(tmp_path / "store"), image="nobody.jpg"))
    assert not kept_files(tmp_path)


def test_a_ranking_in_a_bucket_is_used_and_removed_by_a_deletion(bucket, tmp_path):
    night = {"query": QUERIES, "gallery": GALLERY}
    uri = f"{bucket}/store"
    for number, expected in enumerate([4, 0]):
        ranked = rank_night(uri, tmp_path / str(number), night, top_k=5)
        assert (ranked.lines == ranked.alone, ranked.num_searched) == (True, expected)
    assert len(exclusive_files.list_entries(Location(uri), "files")) == 1 + 4 + 1 + 2 - 1
    assert forget(ForgetConfig(store=uri, image="07.jpg"))["rankings"] == 1
    assert not exclusive_files.list_entries(Location(uri), "files")
