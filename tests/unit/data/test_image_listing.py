import os
import time
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bad_files import put_bad_files
from support.tiny_images import tiny_jpeg, write_images

from reidray.data.listing import folder_ranges, image_listing, listing_job, sorted_walk
from reidray.data.listing.folder_ranges import split_folder
from reidray.data.listing.listing_job import write_listing
from reidray.data.reading.image_folders import find_images
from reidray.errors import UserError
from reidray.scoring.ranking_file import check_names
from reidray.storage.location import Location


def accept(names):
    """Accept all names."""


def listing_of(folder, work, **options):
    options = {"with_stamps": True, "check_names": accept} | options
    return write_listing(Location(str(folder)), Location(str(work)), "gallery", **options)


def rows_of(listing):
    """Return the paths and the stamps of a listing, after a check of its shards."""
    tables = [listing.read(shard) for shard in listing.shards]
    first = 0
    for shard, table in zip(listing.shards, tables, strict=True):
        paths = table["path"].to_pylist()
        ends = (shard.first_path, shard.last_path)
        assert (shard.first, shard.rows, ends) == (first, len(paths), (paths[0], paths[-1]))
        first += shard.rows
    assert first == listing.num_images
    assert all(0 < shard.rows <= image_listing.SHARD_ROWS for shard in listing.shards)
    table = pa.concat_tables(tables)
    assert table.schema.types == [pa.large_string(), pa.string()]
    return tuple(table["path"].to_pylist()), table["stamp"].to_pylist()


def outcome_of(action):
    """Return the result of an action and no error, or no result and the text of the error."""
    try:
        return action(), ""
    except UserError as error:
        return None, str(error)


def assert_same(folder, work, *, follow_links=False):
    """Check that a listing, or its error, is that of `find_images` and `read_stamps`."""
    location = Location(str(folder), follow_links)
    found, error = outcome_of(lambda: find_images(location))
    listing, my_error = outcome_of(
        lambda: write_listing(
            location, Location(str(work)), "gallery", with_stamps=True, check_names=accept
        )
    )
    assert (listing is None) == (found is None)
    if found is None:
        if "is a link that leaves" not in error:  # of several, any may be the first
            assert my_error == error
        return
    paths, stamps = rows_of(listing)
    assert paths == found.paths
    assert listing.skipped == found.skipped
    assert stamps == location.read_stamps(paths)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Let a few files fill shards, runs and chunks, and have stamps at once."""
    monkeypatch.setattr(image_listing, "SHARD_ROWS", 3)
    monkeypatch.setattr(folder_ranges, "SHARD_ROWS", 1)
    monkeypatch.setattr(listing_job, "FOLDER_TASKS", 5)
    monkeypatch.setattr(sorted_walk, "RUN_NAMES", 4)
    monkeypatch.setattr(sorted_walk, "CHUNK_NAMES", 2)
    monkeypatch.setattr("reidray.storage.location.FRESH_NS", 0)


PARTS = st.sampled_from(
    [
        *("a", "a-b", "a.b", "a b", "A", "é", "\U0001f600", "\uffee", "a'b", "z\n", "-"),
        *(".git", "._a", "@eaDir", "__MACOSX", "lost+found", "c.jpg", "d.JPG", "e.j2\u212a"),
        *("f.txt", "g.thing", ".h.jpg", "Thumbs.db", "icon\r", "..i", "j.", "k.tar.gz"),
    ]
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = st.sampled_from(["..", ".", "../..", "/outside", "/outside/x", "/root", "gone", "a"])
CONTENTS = st.sampled_from([b"", b"text", tiny_jpeg()])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(PATHS, CONTENTS, max_size=14),
    st.dictionaries(PATHS, TARGETS, max_size=4),
    st.dictionaries(PATHS, TARGETS, max_size=4),
    st.booleans(),
)
def test_any_tree_is_listed_as_in_memory(tmp_path_factory, files, links, outer_links, follow_links):
    depth = 2 * (4 + 4)  # links of `TARGETS` climb two folders each, and must not leave the test
    base = tmp_path_factory.mktemp("tree").joinpath(*["up"] * depth)
    (base / "outside" / "x").mkdir(parents=True)
    (base / "root").mkdir()
    (base / "work").mkdir()  # a stamp of a link to `base` must not change

    def put(path, action):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            action(path)
        except OSError:
            pass  # another path is a file here

    def link(target):
        there = str(base) + target if target.startswith("/") else target
        return lambda path: path.symlink_to(there)

    for path, data in files.items():
        put(base / "root" / path, lambda file, data=data: file.write_bytes(data))
        put(base / "outside" / path, lambda file, data=data: file.write_bytes(data))
    for path, target in links.items():
        put(base / "root" / path, link(target))
    for path, target in outer_links.items():
        put(base / "outside" / path, link(target))
    assert_same(base / "root", base / "work", follow_links=follow_links)


def test_bad_files_and_missing_folders_are_treated_alike(tmp_path):
    write_images(tmp_path, ["elsewhere/secret.jpg", "set/a, b.jpg", "set/inner/c.jpg"])
    put_bad_files(tmp_path / "set", tmp_path / "elsewhere")
    (tmp_path / "set" / "same").symlink_to("inner")
    (tmp_path / "set" / "inner" / "linked.jpg").symlink_to("c.jpg")
    (tmp_path / "set" / "linked out").symlink_to(tmp_path / "elsewhere" / "secret.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x")
    for name in ("set", "empty", "text", "gone", "elsewhere/secret.jpg"):
        assert_same(tmp_path / name, tmp_path / "work")
        assert_same(tmp_path / name, tmp_path / "work", follow_links=True)


def test_a_folder_of_two_names_is_listed_where_it_lies(tmp_path):
    write_images(tmp_path, ["cache/x/sub/1.jpg", "set/a.jpg", "cache/y/2.jpg"])
    (tmp_path / "cache" / "x" / "aa").symlink_to(tmp_path / "cache" / "x" / "sub")
    for name, target in (("b", "x/sub"), ("b-c", "x"), ("d", "y"), ("e", "y"), ("f", "../set")):
        (tmp_path / "set" / name).symlink_to(tmp_path / "cache" / target)
    assert_same(tmp_path / "set", tmp_path / "work", follow_links=True)


def test_names_that_outputs_cannot_hold_are_refused(tmp_path):
    write_images(tmp_path, ["set/a.jpg", "set/b,c.jpg", "set/d,e.jpg"])
    with pytest.raises(UserError, match=r"'b,c\.jpg' cannot stand in reid_test\.txt"):
        listing_of(tmp_path / "set", tmp_path / "work", check_names=check_names)
    (tmp_path / "set" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(tiny_jpeg())
    with pytest.raises(UserError, match=r"'caf\\udce9\.jpg' is not UTF-8; rename the file"):
        listing_of(tmp_path / "set", tmp_path / "work")


def test_stamps_are_empty_without_a_wish_for_them_and_for_fresh_files(tmp_path, monkeypatch):
    write_images(tmp_path, ["set/a.jpg", "set/b.jpg"])
    assert all(rows_of(listing_of(tmp_path / "set", tmp_path / "work"))[1])
    listing = listing_of(tmp_path / "set", tmp_path / "work", with_stamps=False)
    assert rows_of(listing) == (("a.jpg", "b.jpg"), ["", ""])
    monkeypatch.setattr("reidray.storage.location.FRESH_NS", time.time_ns())
    assert rows_of(listing_of(tmp_path / "set", tmp_path / "work"))[1] == ["", ""]


def test_a_column_of_a_shard_can_be_read_alone(tmp_path):
    write_images(tmp_path, [f"set/{number:02}.jpg" for number in range(7)])
    listing = listing_of(tmp_path / "set", tmp_path / "work")
    assert [shard.rows for shard in listing.shards] == [3, 3, 1]
    assert listing.read(listing.shards[1], ["path"]).to_pydict() == {
        "path": ["03.jpg", "04.jpg", "05.jpg"]
    }
    names = [shard.file for shard in listing.shards]
    assert all(a < b for a, b in pairwise(names))
    assert names[0].startswith("gallery-")


def test_large_folders_are_split_between_their_folders_and_small_ones_are_not(
    tmp_path, monkeypatch
):
    write_images(tmp_path, [f"set/{n:03}/{image}.jpg" for n in range(90) for image in range(2)])
    images = Location(str(tmp_path / "set"))
    monkeypatch.setattr(folder_ranges, "SHARD_ROWS", 20)
    sizes = [
        sum(each.holds(path) for path in images.list_files()) for each in split_folder(images, 64)
    ]
    assert (len(sizes), sum(sizes)) == (9, 180)
    assert max(sizes) <= 22
    assert len(split_folder(images, 4)) == 4
    for name, value in (("SHARD_ROWS", 1000), ("MAX_FILES", 1)):
        with monkeypatch.context() as changed:
            changed.setattr(folder_ranges, name, value)
            write_images(tmp_path, ["set/a.jpg", "set/b.jpg"])
            assert len(split_folder(images, 64)) == 1
    write_images(tmp_path, [f"deep/only/one/{n}/{n}.jpg" for n in range(40)])
    assert len(split_folder(Location(str(tmp_path / "deep")), 64)) == 2
    assert len(split_folder(Location(str(tmp_path / "deep"), follow_links=True), 64)) == 1


def test_a_part_of_many_folders_is_enough_to_split_them(tmp_path, monkeypatch):
    for number in range(300):
        (tmp_path / f"{number:04}").mkdir()
        (tmp_path / f"{number:04}" / "a.jpg").touch()
    monkeypatch.setattr(folder_ranges, "MAX_NAMES", 20)
    images = Location(str(tmp_path))
    ranges = split_folder(images, 8)
    files = images.list_files()
    sizes = [sum(each.holds(path) for path in files) for each in ranges]
    assert sum(sizes) == 300
    assert 5 <= len(sizes) <= 8
