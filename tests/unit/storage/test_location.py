import os
import pickle
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_images import write_images

from reidray.data.reading.image_folders import list_images
from reidray.errors import UserError
from reidray.storage.local_disk import OutsideLinkError
from reidray.storage.location import Location
from reidray.storage.paths import path_leaves_root


def test_images_are_listed_sorted_relative_and_without_hidden_ones(tmp_path):
    write_images(
        tmp_path,
        [
            *("b/x, y.JPG", "a z.png", "c.jpeg", ".DS_Store", "._c.jpg", ".git/d.jpg"),
            "lost+found/e.jpg",
        ],
    )
    (tmp_path / "notes.txt").write_text("no image")
    location = Location(str(tmp_path))
    assert list_images(location) == ["a z.png", "b/x, y.JPG", "c.jpeg"]
    assert list_images(location, "b") == ["b/x, y.JPG"]
    assert location.list_files() == ["a z.png", "b/x, y.JPG", "c.jpeg", "notes.txt"]
    assert location.list_files(recursive=False) == ["a z.png", "c.jpeg", "notes.txt"]
    assert location.list_children() == ["a z.png", "b/", "c.jpeg", "lost+found/", "notes.txt"]


def test_a_folder_that_is_missing_empty_or_a_file_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, message in (("gone", "no such folder"), ("empty", "no images"), ("file", "a file")):
        with pytest.raises(UserError, match=f"{name}: .*{message}"):
            list_images(Location(str(tmp_path / name)))


def test_a_location_can_be_pickled(tmp_path, monkeypatch):
    write_images(tmp_path, ["train/a.jpg"])
    monkeypatch.chdir(tmp_path)
    here = Location("train")
    monkeypatch.chdir("/")
    there = pickle.loads(pickle.dumps(here))
    assert there.list_files() == ["a.jpg"]
    assert there == Location(f"file://{tmp_path}/train/") == Location(str(tmp_path)).join("train")
    assert (there.exists(), there.is_dir(), there.is_file()) == (True, True, False)
    assert there.parent == Location(str(tmp_path))
    assert not there.join("b").exists()


def test_a_name_that_no_disk_can_hold_is_named(tmp_path):
    for ask in (Location.exists, Location.is_file, Location.list_files, Location.list_children):
        with pytest.raises(UserError, match=r"aaa: cannot be read .*File name too long"):
            ask(Location(str(tmp_path)).join("a" * 300))


@pytest.mark.parametrize(
    "uri", ["gs://bucket/a", "http://host/a", "", "s3://", "s3://?scheme=http"]
)
def test_an_address_of_another_kind_is_refused(uri):
    with pytest.raises(UserError, match="s3://bucket/prefix"):
        Location(uri)


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a/../../b", "..", "", "a\0b", "a/..", "."]
)
def test_a_path_never_leaves_its_folder(path, tmp_path):
    assert path_leaves_root(path)
    location = Location(str(tmp_path))
    for action in (location.read_bytes, location.join):
        with pytest.raises(UserError, match="leaves"):
            action(path)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c", "..."])).map("/".join))
def test_no_accepted_path_leaves_the_folder(path):
    if not path_leaves_root(path):
        assert posixpath.normpath(f"/root/set/{path}").startswith("/root/set/")


def test_a_link_out_of_the_folder_is_listed_and_not_read_and_one_within_is_read(tmp_path):
    write_images(tmp_path, ["secret.jpg", "elsewhere/b.jpg", "set/a.jpg"])
    root = tmp_path / "set"
    location = Location(str(root))
    (root / "inner.jpg").symlink_to("a.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    assert location.list_files() == ["a.jpg", "inner.jpg", "out.jpg"]
    assert location.read_bytes("inner.jpg") == location.read_bytes("a.jpg")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    for name in ("out.jpg", "folder/b.jpg"):
        with pytest.raises(OutsideLinkError, match=f"{name}: is a link that leaves"):
            location.read_bytes(name)
    for under in ("", "folder"):
        with pytest.raises(OutsideLinkError, match="folder: is a link that leaves"):
            location.list_files(under=under)


def test_a_link_to_a_folder_within_is_not_followed_and_one_to_itself_does_no_harm(tmp_path):
    write_images(tmp_path, ["day1/a.jpg"])
    location = Location(str(tmp_path))
    (tmp_path / "day1" / "up").symlink_to("..")
    (tmp_path / "latest").symlink_to("day1")
    (tmp_path / "loop").symlink_to("loop")
    assert location.list_files() == ["day1/a.jpg", "loop"]
    assert location.list_children() == ["day1/", "latest/", "loop"]
    assert location.list_files(under="latest") == ["latest/a.jpg"]


def test_a_pipe_is_not_waited_for_and_a_file_beyond_the_limit_not_read(tmp_path):
    location = Location(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        location.read_bytes("pipe")
    (tmp_path / "file").write_bytes(b"12345")
    assert location.read_bytes("file", 5) == b"12345"
    with pytest.raises(OSError, match="More than 4 bytes"):
        location.read_bytes("file", 4)


def test_a_folder_reached_through_a_link_is_a_root_like_any_other(tmp_path):
    write_images(tmp_path, ["real/a.jpg"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    location = Location(str(tmp_path / "link"))
    assert location.list_files() == ["a.jpg"]
    assert location.read_bytes("a.jpg")
