import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from support.tiny_images import tiny_jpeg, write_images

from reidray.data.images.decoding import decode_files
from reidray.data.layouts import read_manifest
from reidray.data.reading.image_folders import find_images, list_images
from reidray.errors import UserError
from reidray.storage.location import Location

KEYS = (
    "a//b.jpg",
    "./c.jpg",
    "x/../d.jpg",
    "/lead.jpg",
    "sp ace.jpg",
    "pl+us.jpg",
    "per%20cent.jpg",
    "100%.jpg",
    "q?x.jpg",
    "q?d/e.jpg",
    "h#x.jpg",
    "a&b=c.jpg",
    "ü日本.jpg",
    "back\\slash.jpg",
    "C:/f.jpg",
)


def write_manifest(file, paths, **more):
    rows = "".join(f'"{path}",train,{number}\n' for number, path in enumerate(paths, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"path,split,person\n{rows}", **more)
    return str(file)


def paths_of(manifest):
    return manifest.table["path"].to_pylist()


@pytest.fixture
def crops(tmp_path):
    return write_images(tmp_path / "crops", ["1/a.jpg", "2/b.jpg"])


def test_absolute_paths_within_the_root_become_relative(tmp_path, crops):
    paths = [f"{crops}/1/a.jpg", f"file://{crops}/./2/b.jpg"]
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", paths))
    assert manifest.root == str(tmp_path)
    assert paths_of(manifest) == ["crops/1/a.jpg", "crops/2/b.jpg"]
    (tmp_path / "alias").symlink_to(crops)
    aliased = [f"{tmp_path}/alias/1/a.jpg"]
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", aliased), root=str(crops))
    assert paths_of(manifest) == ["1/a.jpg"]


def test_absolute_paths_elsewhere_are_refused_in_a_line_that_names_the_root_to_give(
    tmp_path, crops
):
    file = write_manifest(tmp_path / "lists" / "m.csv", [f"{crops}/1/a.jpg", f"{crops}/2/b.jpg"])
    with pytest.raises(UserError, match="`root=") as error:
        read_manifest(file)
    assert f"m.csv, row 1: path '{crops}/1/a.jpg' lies outside" in str(error.value)
    assert str(error.value).endswith(f"such as `root={crops}`")
    manifest = read_manifest(file, root=str(crops))
    assert (manifest.root, paths_of(manifest)) == (str(crops), ["1/a.jpg", "2/b.jpg"])
    assert not decode_files(manifest.location, paths_of(manifest), (16, 8)).bad


def test_paths_that_climb_do_so_from_the_folder_of_the_manifest(tmp_path, crops):
    file = write_manifest(tmp_path / "lists" / "m.csv", ["../crops/1/a.jpg", "../crops/2/b.jpg"])
    with pytest.raises(
        UserError, match=f"'../crops/1/a.jpg' lies outside .*such as `root={crops}`$"
    ):
        read_manifest(file)
    for root, paths in (
        (crops, ["1/a.jpg", "2/b.jpg"]),
        (tmp_path, ["crops/1/a.jpg", "crops/2/b.jpg"]),
    ):
        assert paths_of(read_manifest(file, root=str(root))) == paths


def test_relative_paths_and_masks_begin_at_the_root_that_is_named(tmp_path, crops):
    file = tmp_path / "lists" / "m.csv"
    file.parent.mkdir()
    file.write_text(f"path,split,mask_path\n1/a.jpg,train,{crops}/2/b.jpg\n")
    with pytest.raises(UserError, match=r"row 1: mask_path '/.*' lies outside"):
        read_manifest(str(file))
    with pytest.raises(UserError, match=r"not there: 2 .*`root`"):
        read_manifest(write_manifest(tmp_path / "lists" / "other.csv", ["1/a.jpg", "2/b.jpg"]))
    manifest = read_manifest(str(file), root=str(crops))
    assert manifest.table.select(["path", "mask_path"]).to_pylist() == [
        {"path": "1/a.jpg", "mask_path": "2/b.jpg"}
    ]
    with pytest.raises(UserError, match=r"root .*/gone: no such folder, named by `root`"):
        read_manifest(str(file), root=f"{crops}/gone")
    with pytest.raises(UserError, match="`root` goes with a manifest file only"):
        read_manifest(str(crops), root=str(crops))


@pytest.mark.parametrize("named", ["relative", "absolute"])
def test_the_metadata_of_a_parquet_file_name_the_root_and_the_flag_comes_first(
    tmp_path, crops, named
):
    table = pa.table({"path": ["1/a.jpg"], "split": ["train"]})
    root = "../crops" if named == "relative" else str(crops)
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists" / "m.parquet"
    papq.write_table(table.replace_schema_metadata({"root": root}), file)
    assert read_manifest(str(file)).root == str(crops)
    write_images(tmp_path / "other", ["1/a.jpg"])
    assert read_manifest(str(file), root=str(tmp_path / "other")).root == str(tmp_path / "other")
    papq.write_table(table.replace_schema_metadata({"root": "gone"}), file)
    with pytest.raises(UserError, match="no such folder, named by the metadata of the manifest"):
        read_manifest(str(file))


def linked_set(tmp_path):
    """Return a data set as DVC keeps it: files, and one folder, are links into a cache."""
    cache = tmp_path / "cache"
    write_images(cache, ["ab/cdef", "ab/0123", "videos/7.jpg", "videos/more/8.jpg"])
    root = tmp_path / "set"
    for person, target in (("1", "ab/cdef"), ("2", "ab/0123")):
        (root / person).mkdir(parents=True)
        (root / person / "a.jpg").symlink_to(cache / target)
    (root / "3").symlink_to(cache / "videos")
    (cache / "videos" / "more" / "up").symlink_to("..")
    (cache / "videos" / "root").symlink_to(root)
    return root


def test_links_out_of_the_data_are_followed_on_request(tmp_path):
    root = linked_set(tmp_path)
    with pytest.raises(UserError, match=r"/3: is a link that leaves .*`follow_links=True`"):
        read_manifest(str(root))
    manifest = read_manifest(str(root), follow_links=True)
    assert paths_of(manifest) == ["1/a.jpg", "2/a.jpg", "3/7.jpg", "3/more/8.jpg"]
    assert manifest.location.follow_links
    assert not decode_files(manifest.location, paths_of(manifest), (16, 8)).bad
    (root / "3").unlink()
    bad = decode_files(Location(str(root)), ["1/a.jpg"], (16, 8)).bad
    assert [image.reason for image in bad] == ["a link that leaves the folder: see `follow_links`"]


def test_links_without_a_suffix_are_counted_or_followed(tmp_path):
    write_images(tmp_path, ["cache/x", "set/a.jpg"])
    (tmp_path / "set" / "b").symlink_to(tmp_path / "cache" / "x")
    found = find_images(Location(str(tmp_path / "set")))
    assert found.skipped == {"links that leave the folder": 1}
    followed = find_images(Location(str(tmp_path / "set"), follow_links=True))
    assert (followed.paths, followed.skipped) == (("a.jpg", "b"), {})


def test_a_manifest_may_name_what_lies_behind_a_link_within_its_root(tmp_path):
    write_images(tmp_path, ["all/day1/a.jpg"])
    (tmp_path / "all" / "latest").symlink_to("day1")
    file = write_manifest(tmp_path / "m.csv", ["all/latest/a.jpg", "all/latest/gone.jpg"])
    manifest = read_manifest(file)
    assert paths_of(manifest) == ["all/latest/a.jpg"]
    assert "not there: 1" in manifest.notes[-1]


def test_a_root_above_everything_lists_only_the_folders_of_the_images(tmp_path, crops):
    forbidden = tmp_path / "elsewhere"
    forbidden.symlink_to("/")  # listing it would be refused
    file = write_manifest(tmp_path / "lists" / "m.csv", [f"{crops}/1/a.jpg", f"{crops}/2/b.jpg"])
    manifest = read_manifest(file, root="/")
    assert paths_of(manifest) == [f"{crops}/1/a.jpg"[1:], f"{crops}/2/b.jpg"[1:]]


def test_keys_of_a_bucket_are_read_as_they_are_listed(bucket):
    store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    name = bucket.removeprefix("s3://")
    for key in KEYS:
        store.put_object(Bucket=name, Key=f"a//set/{key}", Body=tiny_jpeg())
        store.put_object(Bucket=name, Key=f"set/{key}", Body=tiny_jpeg())
    for folder in ("set", "a//set"):
        location = Location(f"{bucket}/{folder}")
        assert location.is_dir()
        assert list_images(location) == sorted(KEYS)
        decoded = decode_files(location, sorted(KEYS), (16, 8))
        assert not decoded.bad
        assert list_images(location.join("q?d/")) == ["e.jpg"]
        assert location.read_bytes("a//b.jpg", len(tiny_jpeg())) == tiny_jpeg()
        with pytest.raises(OSError, match="More than 9 bytes"):
            location.read_bytes("a//b.jpg", 9)
        for gone in ("a/b.jpg", "gone//x.jpg"):
            (bad,) = decode_files(location, [gone], (16, 8)).bad
            assert bad.reason == "No such file or directory"


def test_more_keys_than_one_answer_holds_are_listed_below_an_unusual_prefix(bucket):
    store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])

    def put(number):
        key = f"a//set/{number}.jpg"
        store.put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"x")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(put, range(1001)))
    assert len(Location(f"{bucket}/a//set").list_files()) == 1001


def test_shards_in_a_bucket_are_a_manifest_of_its_keys(bucket):
    images, shards = Location(f"{bucket}/images"), Location(f"{bucket}/shards")
    images.write_bytes("a/1.jpg", tiny_jpeg())
    paths = [f"{bucket}/images/a/1.jpg", "b//2.jpg"]
    for number, path in enumerate(paths):
        sink = pa.BufferOutputStream()
        papq.write_table(pa.table({"path": [path], "split": ["train"], "person": [1]}), sink)
        shards.write_bytes(f"{number}.parquet", sink.getvalue().to_pybytes())
    with pytest.raises(UserError, match=re.escape(f"such as `root={bucket}/images/a`")):
        read_manifest(shards.uri)
    manifest = read_manifest(shards.uri, root=images.uri)
    assert paths_of(manifest) == ["a/1.jpg", "b//2.jpg"]
    bad = decode_files(manifest.location, paths_of(manifest), (16, 8)).bad
    assert [each.path for each in bad] == ["b//2.jpg"]


def test_a_manifest_names_keys_exactly_or_in_their_plain_form(bucket, tmp_path):
    for key in ("a.jpg", "sub/c.jpg"):
        Location(f"{bucket}/set").write_bytes(key, tiny_jpeg())
    store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    store.put_object(Bucket=bucket.removeprefix("s3://"), Key="set/sub//b.jpg", Body=tiny_jpeg())
    paths = ["./a.jpg", "sub//b.jpg", "sub//c.jpg", f"{bucket}/set/sub/c.jpg"]
    file = write_manifest(tmp_path / "m.csv", paths[:2] + paths[3:])
    manifest = read_manifest(file, root=f"{bucket}/set")
    assert paths_of(manifest) == ["a.jpg", "sub//b.jpg", "sub/c.jpg"]
    assert not manifest.notes
    assert not decode_files(manifest.location, paths_of(manifest), (16, 8)).bad
    outside = write_manifest(tmp_path / "m.csv", [f"{bucket}/other/a.jpg"])
    with pytest.raises(UserError, match=re.escape(f"such as `root={bucket}/other`")):
        read_manifest(outside, root=f"{bucket}/set")
    climbing = write_manifest(tmp_path / "m.csv", ["../other/a.jpg"])
    Location(f"{bucket}/set").write_bytes("m.csv", Path(climbing).read_bytes())
    with pytest.raises(UserError, match=r"'\.\./other/a\.jpg' is not a path within"):
        read_manifest(f"{bucket}/set/m.csv")
    with pytest.raises(UserError, match=r"'\.\./other/a\.jpg' lies outside"):
        read_manifest(climbing, root=f"{bucket}/set")


def test_a_question_mark_is_part_of_an_address_unless_options_follow():
    location = Location("s3://crops/set?1?endpoint_override=127.0.0.1:9&scheme=http")
    assert (location.path, location.name) == ("crops/set?1", "set?1")
    child = location.join("a?b/")
    assert child.uri == "s3://crops/set?1/a?b?endpoint_override=127.0.0.1:9&scheme=http"
    assert child.parent == location


def test_read_only_data_are_read(crops):
    write_manifest(crops / "manifest.csv", ["1/a.jpg", "2/b.jpg"])
    for folder in (crops / "1", crops / "2", crops):
        folder.chmod(0o555)
    try:
        before = sorted(map(str, Path(crops).rglob("*")))
        manifest = read_manifest(str(crops))
        assert not decode_files(manifest.location, paths_of(manifest), (16, 8)).bad
        assert sorted(map(str, Path(crops).rglob("*"))) == before
    finally:
        crops.chmod(0o755)
