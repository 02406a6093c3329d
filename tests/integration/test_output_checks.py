"""Outputs that could not be written are refused before any work, and nothing is left behind."""

import shutil
import subprocess
import sys

import pytest
from support.s3_server import all_objects

from reidray.config.scoring import ScoreConfig
from reidray.errors import UserError
from reidray.scoring.scoring_paths import check_score_outputs
from reidray.storage.output_checks import check_disjoint, check_writable_folder, is_mount_point
from reidray.storage.publishing import atomic_output, check_output
from reidray.storage.publishing import check_store as check_store_place
from reidray.training.runs.run_directory import RunDirectory

LONGEST_NAME = 255


def check_store(path):
    check_writable_folder(path, locked=True)


def check_run(path):
    RunDirectory.from_uri(str(path)).check_new("choose another")


def check_scores(path):
    check_output(str(path))


CHECKS = [check_scores, check_store, check_run]


@pytest.fixture(params=CHECKS, ids=[check.__name__ for check in CHECKS])
def check(request):
    return request.param


def everything(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def test_a_writable_folder_passes_and_stays_empty(tmp_path, check):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for name in ("there", "link", "new", "some/deep/new", "with space", "n" * 200, "ü" * 100):
        check(tmp_path / name)
    assert everything(tmp_path) == [str(tmp_path / "link"), str(tmp_path / "there")]


def refused(tmp_path, check, name, pattern):
    before = everything(tmp_path)
    with pytest.raises(UserError, match=pattern) as error:
        check(tmp_path / name)
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == before


def test_a_file_or_a_place_under_one_is_refused(tmp_path, check):
    (tmp_path / "file").write_text("x")
    refused(tmp_path, check, "file", "file")
    refused(tmp_path, check, "file/out", "file: is a file, expected a folder|Not a directory")


def test_a_link_to_nothing_is_refused(tmp_path, check):
    (tmp_path / "link").symlink_to(tmp_path / "unmounted" / "out")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path, check, "link", "is a link to .*unmounted/out, which is not there")
    refused(tmp_path, check, "loop", "is a link to|Too many levels")


@pytest.mark.parametrize("length", [LONGEST_NAME + 1, LONGEST_NAME, LONGEST_NAME - 10])
def test_a_name_too_long_for_the_hidden_folders_beside_it_is_refused(tmp_path, check, length):
    refused(tmp_path, check, "n" * length, "File name too long")


def test_a_path_that_is_too_long_is_refused(tmp_path, check):
    refused(tmp_path, check, "/".join(["n" * 200] * 20), "File name too long")


MOUNTED = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
import test_output_checks as checks
from reidray.errors import UserError
for place in ("whole", "part", "part/in", "readonly", "readonly/in", "readonly/new", "new"):
    for check in checks.CHECKS:
        try:
            check(Path(sys.argv[2], place))
            print(check.__name__, place, "passes")
        except UserError as error:
            told = "mount point" if "mount point" in str(error) else "refused"
            print(check.__name__, place, told)
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="this machine lets nobody mount anything",
)
def test_a_mount_point_and_a_read_only_place_are_refused_where_they_must_be(tmp_path):
    for name in ("whole", "part", "part.source", "readonly/in"):
        (tmp_path / name).mkdir(parents=True)
    mounts = (
        f"mount -t tmpfs none {tmp_path}/whole && mount --bind {tmp_path}/part.source "
        f"{tmp_path}/part && mount --bind {tmp_path}/readonly {tmp_path}/readonly && "
        f"mount -o remount,bind,ro {tmp_path}/readonly && "
        f"mount -t tmpfs none {tmp_path}/readonly/in && exec {sys.executable} - "
        f"{__file__.rpartition('/')[0]} {tmp_path}"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mounts],
        input=MOUNTED,
        capture_output=True,
        text=True,
        check=False,
    )
    said = {
        tuple(line.split(" ", 2)[:2]): line.split(" ", 2)[2] for line in done.stdout.splitlines()
    }
    assert len(said) == 21, done.stderr
    assert {place for (_, place), what in said.items() if what == "mount point"} == {
        "whole",
        "part",
        "readonly",
        "readonly/in",
    }
    assert all(name == "check_scores" for (name, _), what in said.items() if what == "mount point")
    assert said["check_run", "whole"] == said["check_store", "part"] == "passes"
    assert said["check_store", "readonly/in"] == "refused"  # its lock lies beside it
    assert said["check_run", "readonly/in"] == "passes"
    assert {said[check.__name__, "readonly/new"] for check in CHECKS} == {"refused"}
    assert all(
        said[check.__name__, place] == "passes" for check in CHECKS for place in ("part/in", "new")
    )


def test_an_ordinary_folder_is_no_mount_point(tmp_path):
    assert not is_mount_point(tmp_path)


APART = [
    ("out", "out", "is the same as"),
    ("out", "out/store", "holds"),
    ("out", "out/deep/store", "holds"),
    ("store/out", "store", "lies in"),
    ("out", "link", "is the same as"),
    ("link/out", "out", "lies in"),
]


@pytest.mark.parametrize("place", ["disk", "bucket"])
@pytest.mark.parametrize(("output", "other", "relation"), APART)
def test_an_output_and_another_folder_within_each_other_are_refused(
    tmp_path, output, other, relation, place
):
    if place == "bucket" and "link" in output + other:
        pytest.skip("a bucket has no links")
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "out").mkdir()
    root = tmp_path if place == "disk" else "s3://bucket/deep"
    with pytest.raises(UserError, match=rf"`output` \S*{output} {relation} `store` \S*{other}, "):
        check_disjoint("output", f"{root}/{output}", {"store": f"{root}/{other}"})


def test_folders_with_a_common_prefix_are_disjoint():
    for root in ("/data", "s3://bucket"):
        others = {"store": f"{root}/out.store", "gallery": f"{root}/outer/out", "none": None}
        check_disjoint("output", f"{root}/out", others)
    check_disjoint("output", "/bucket/out", {"store": "s3://bucket/out"})


def scored(folder, **changes):
    asked = {name: f"{folder}/{name}" for name in ("model", "queries", "gallery", "output")}
    return ScoreConfig(**(asked | changes))


@pytest.mark.parametrize("name", ["model", "queries", "gallery", "store"])
@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_no_folder_of_a_run_is_written_within_another(tmp_path, bucket, name, place):
    root = tmp_path if place == "disk" else bucket
    check_score_outputs(scored(root, store=f"{root}/store"))
    with pytest.raises(UserError, match=f"`output` .* lies in `{name}`"):
        check_score_outputs(scored(root, store=f"{root}/store", output=f"{root}/{name}/out"))
    with pytest.raises(UserError, match=f"`output` .* holds `{name}`|`{name}` .* lies in"):
        check_score_outputs(scored(root, **{"store": None, name: f"{root}/output/{name}"}))
    if name != "store":
        with pytest.raises(UserError, match=f"`store` .* lies in `{name}`"):
            check_score_outputs(scored(root, store=f"{root}/{name}/store"))


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_nothing_is_written_within_the_output_of_another_run(tmp_path, bucket, place):
    scores = f"{tmp_path if place == 'disk' else bucket}/deep/scores"
    files = frozenset({"scoring.json", "reid_test.txt"})
    with atomic_output(scores, files) as folder:
        for name in files:
            (folder / name).write_text("{}")
    check_output(scores, files)
    for check in (check_output, check_store_place, check_run):
        check(f"{scores}-evaluated")
        for within in ("evaluated", "deep/evaluated"):
            with pytest.raises(UserError, match=rf"{within}: lies in .*scores, an output that is"):
                check(f"{scores}/{within}")
    with pytest.raises(UserError, match="scores: is an output of scoring or evaluation"):
        check_store_place(scores)


@pytest.mark.parametrize("uri", ["s3://bucket//out", "s3://bucket/a//out"])
def test_an_address_with_an_empty_part_is_refused(uri):
    for check in (check_output, check_store_place, check_run):
        with pytest.raises(UserError, match="a folder in this address has no name"):
            check(uri)


@pytest.mark.parametrize("check", [check_scores, check_store])
def test_a_file_of_others_with_the_name_of_the_lock_is_refused(tmp_path, check):
    (tmp_path / ".out.lock").write_text("mine")
    refused(tmp_path, check, "out", r"\.out\.lock: is not the lock of a run")


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "store").write_text("x")
    with pytest.raises(UserError, match="store: is a file, expected a folder"):
        check_score_outputs(scored(tmp_path, store=f"{tmp_path}/store"))


def test_a_bucket_that_is_missing_and_a_key_that_is_too_long_are_refused(bucket):
    for place, said in (("s3://no-such-bucket/out", "cannot be written"), ("long", "too long")):
        uri = f"{bucket}/{'k' * 1000}" if place == "long" else place
        for check in (check_output, check_store_place, check_run):
            with pytest.raises(UserError, match=said):
                check(uri)
    assert all_objects(f"{bucket}/k") == {}
