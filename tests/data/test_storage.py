import pickle
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_images import write_images

from reidray.data.storage import Location, list_images, path_leaves_root
from reidray.errors import UserError


def test_images_are_listed_sorted_relative_and_without_hidden_ones(tmp_path):
    write_images(
        tmp_path, ["b/x, y.JPG", "a z.png", "c.jpeg", ".DS_Store", "._c.jpg", ".git/d.jpg"]
    )
    (tmp_path / "notes.txt").write_text("no image")
    location = Location(str(tmp_path))
    assert list_images(location) == ["a z.png", "b/x, y.JPG", "c.jpeg"]
    assert list_images(location, "b") == ["b/x, y.JPG"]
    assert location.list_files() == ["a z.png", "b/x, y.JPG", "c.jpeg", "notes.txt"]
    assert location.list_files(recursive=False) == ["a z.png", "c.jpeg", "notes.txt"]
    assert location.list_children() == ["a z.png", "b/", "c.jpeg", "notes.txt"]


def test_a_folder_that_is_missing_empty_or_a_file_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, message in (("gone", "no such folder"), ("empty", "no images"), ("file", "a file")):
        with pytest.raises(UserError, match=f"{name}: .*{message}"):
            list_images(Location(str(tmp_path / name)))


def test_a_location_stands_for_the_same_folder_in_another_process(tmp_path, monkeypatch):
    write_images(tmp_path, ["train/a.jpg"])
    monkeypatch.chdir(tmp_path)
    here = Location("train")
    monkeypatch.chdir("/")
    there = pickle.loads(pickle.dumps(here))
    assert there.list_files() == ["a.jpg"]
    assert there == Location(f"file://{tmp_path}/train/") == Location(str(tmp_path)).join("train")
    assert (there.exists(), there.is_folder(), there.is_file()) == (True, True, False)
    assert there.parent == Location(str(tmp_path))
    assert not there.join("b").exists()


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
def test_no_path_that_is_let_through_climbs_out(path):
    if not path_leaves_root(path):
        assert posixpath.normpath(f"/root/set/{path}").startswith("/root/set/")


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_read(tmp_path):
    write_images(tmp_path, ["secret.jpg", "elsewhere/b.jpg", "set/a.jpg"])
    root = tmp_path / "set"
    location = Location(str(root))
    (root / "inner.jpg").symlink_to("a.jpg")
    assert location.list_files() == ["a.jpg", "inner.jpg"]
    assert location.read_bytes("inner.jpg") == location.read_bytes("a.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(UserError, match=r"out\.jpg: is a link that leaves"):
        location.list_files()
    with pytest.raises(UserError, match=r"out\.jpg: is a link that leaves"):
        location.read_bytes("out.jpg")
    (root / "out.jpg").unlink()
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="folder: is a link that leaves"):
        location.list_files()
    with pytest.raises(UserError, match="leaves"):
        location.read_bytes("folder/b.jpg")


def test_a_folder_reached_through_a_link_is_a_root_like_any_other(tmp_path):
    write_images(tmp_path, ["real/a.jpg"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    location = Location(str(tmp_path / "link"))
    assert location.list_files() == ["a.jpg"]
    assert location.read_bytes("a.jpg")
