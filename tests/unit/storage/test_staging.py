import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.tiny_images import write_images

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.staging import atomic_folder, atomic_write, temporary_folder


def names(folder):
    return [path.name for path in folder.iterdir()]


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_an_output_appears_whole_and_only_at_the_end(tmp_path):
    destination = tmp_path / "deep" / "out"
    with atomic_folder(destination) as staging:
        (staging / "a.txt").write_text("new")
        assert not destination.exists()
    assert contents(destination) == {"a.txt": "new"}
    assert names(destination.parent) == ["out"]
    assert destination.stat().st_mode & 0o777 == 0o777 & ~int(umask(), 8)


def umask():
    return subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True, check=True).stdout


def test_an_earlier_output_is_replaced_in_one_step(tmp_path):
    destination = tmp_path / "out"
    earlier = frozenset({"a.txt", "b.txt"})
    for text in ("old", "new"):
        with atomic_folder(destination, replaces=earlier) as staging:
            (staging / f"{'a' if text == 'old' else 'b'}.txt").write_text(text)
            assert not destination.exists() or contents(destination) == {"a.txt": "old"}
    assert contents(destination) == {"b.txt": "new"}
    assert names(tmp_path) == ["out"]


def write_half_and_fail(destination, failure):
    with atomic_folder(destination, replaces=frozenset({"a.txt"})) as staging:
        (staging / "a.txt").write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_earlier_output_and_nothing_else(tmp_path, failure):
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / "a.txt").write_text("old")
    with pytest.raises(failure):
        write_half_and_fail(destination, failure)
    assert contents(destination) == {"a.txt": "old"}
    assert names(tmp_path) == ["out"]


def test_files_of_others_are_never_lost(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for replaces in (frozenset(), frozenset({"a.txt"})):
        with (
            pytest.raises(UserError, match=r"'thesis\.tex', which would be lost"),
            atomic_folder(tmp_path, replaces=replaces),
        ):
            pytest.fail("work began")
    assert contents(tmp_path) == {"thesis.tex": "years"}


def test_files_that_appear_during_the_work_are_not_lost(tmp_path):
    destination = tmp_path / "out"
    with pytest.raises(UserError, match="would be lost"), atomic_folder(destination):
        write_images(destination, ["family.jpg"])
    assert names(destination) == ["family.jpg"]


def test_an_empty_folder_may_be_the_destination(tmp_path):
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as staging:
        (staging / "a.txt").write_text("new")
    assert contents(tmp_path / "out") == {"a.txt": "new"}


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    for destination in (tmp_path / "file", tmp_path / "file" / "out", "/proc/out"):
        with pytest.raises(UserError), atomic_folder(type(tmp_path)(destination)):
            pytest.fail("work began")


def test_a_hidden_file_of_others_beside_one_that_is_written_is_never_lost(tmp_path):
    (tmp_path / ".a.txt.part").write_text("mine")
    atomic_write(tmp_path / "a.txt", "new")
    Location(str(tmp_path)).write_bytes("a.txt", b"newer")
    assert contents(tmp_path) == {".a.txt.part": "mine", "a.txt": "newer"}


def contents_below(folder):
    """Return the contents of all files of a folder by path, with hidden files and empty folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_folder_with_the_name_of_an_output_file_is_never_lost(tmp_path):
    out = tmp_path / "out"
    (out / "a.txt" / "photos").mkdir(parents=True)
    (out / "a.txt" / "photos" / "1.jpg").write_text("family")
    before = contents_below(tmp_path)
    with pytest.raises(UserError, match=r"holds 'a\.txt', which would be lost"):
        write_half_and_fail(out, AssertionError("work began"))
    assert contents_below(tmp_path) == before


def test_a_link_with_the_name_of_an_output_file_is_never_lost(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"holds 'a\.txt', which would be lost"):
        write_half_and_fail(tmp_path / "out", AssertionError("work began"))
    assert names(tmp_path / "out") == ["a.txt"]


def test_a_file_of_another_tool_without_the_summary_is_never_lost(tmp_path):
    (tmp_path / "a.txt").write_text("by hand")
    earlier = frozenset({"a.txt", "summary.json"})
    with (
        pytest.raises(UserError, match=r"holds 'a\.txt'"),
        atomic_folder(tmp_path, earlier, "summary.json"),
    ):
        pytest.fail("work began")
    (tmp_path / "summary.json").write_text("{}")
    with atomic_folder(tmp_path, earlier, "summary.json") as staging:
        (staging / "summary.json").write_text("new")
    assert contents(tmp_path) == {"summary.json": "new"}


def test_hidden_files_of_others_beside_an_output_are_never_lost_and_are_logged(tmp_path, caplog):
    out = tmp_path / "out"
    for name in (".out.staging", ".out.staging.old", ".out.0123abcd.staging", ".a.txt.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    before = contents_below(tmp_path)
    with atomic_folder(out) as staging:
        (staging / "a.txt").write_text("new")
    assert contents(out) == {"a.txt": "new"}
    left = {name: data for name, data in contents_below(tmp_path).items() if name[:3] != "out"}
    assert left == before
    assert f"{tmp_path}/.out.staging: a killed run seems to have left this folder" in caplog.text


@pytest.mark.parametrize("text", ["my notes", '{"locked_by": "me", "note": ""}', "[1]", "[" * 5000])
def test_a_file_of_others_with_the_name_of_the_lock_is_never_lost(tmp_path, text):
    (tmp_path / ".out.lock").write_text(text)
    with pytest.raises(UserError, match=r"\.out\.lock: is not the lock of a run"):
        write_half_and_fail(tmp_path / "out", AssertionError("work began"))
    assert contents(tmp_path) == {".out.lock": text}


KILLED = """
import os, signal, sys
from pathlib import Path
import reidray.storage.staging as outputs
renames = []
if sys.argv[2] != "none":  # a system that cannot exchange two folders in one step
    outputs.sys.platform = "other"
    rename = Path.rename
    def counted(path, target):
        renames.append(path)
        if len(renames) > int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)
with outputs.atomic_folder(Path(sys.argv[1]), frozenset({"a.txt"})) as staging:
    (staging / "a.txt").write_text("new")
    if sys.argv[2] == "none":
        os.kill(os.getpid(), signal.SIGKILL)
    outputs.Path.rename = counted
"""


@pytest.mark.parametrize("kill_at", ["none", "1", "2", "3"])
def test_the_next_process_removes_the_staging_folder_of_a_killed_one_and_nothing_else(
    tmp_path, kill_at
):
    out = tmp_path / "out"
    with atomic_folder(out) as staging:
        (staging / "a.txt").write_text("old")
    (tmp_path / ".out.89abcdef.staging").mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(out), kill_at], check=False)
    assert len(names(tmp_path)) > 2
    found = []
    with atomic_folder(out, replaces=frozenset({"a.txt"})) as staging:
        found.append(contents(out))
        (staging / "a.txt").write_text("newer")
    assert found == [{"a.txt": "new" if kill_at == "3" else "old"}]
    assert sorted(names(tmp_path)) == [".out.89abcdef.staging", "out"]
    assert contents(out) == {"a.txt": "newer"}


def test_the_temporary_folder_of_a_killed_process_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = tmp_path / "reidray-output-of-a-user"
    others.mkdir()
    script = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from reidray.storage.staging import temporary_folder\n"
        "with temporary_folder() as folder:\n"
        "    print(folder, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        folder = Path(process.stdout.readline().strip())
        with temporary_folder() as own:
            assert folder.is_dir()
            assert own.is_dir()
        assert set(names(tmp_path)) == {folder.name, others.name}
        process.kill()
    with temporary_folder():
        assert not folder.exists()
    assert names(tmp_path) == [others.name]


def test_a_reader_never_finds_the_output_missing_while_it_is_replaced(tmp_path):
    destination = tmp_path / "out"
    earlier = frozenset({"a.txt"})
    watch = (
        "import sys, pathlib\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while file.read_text() != 'last': pass\n"
    )
    with atomic_folder(destination) as staging:
        (staging / "a.txt").write_text("first")
    command = [sys.executable, "-c", watch, str(destination / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "ready\n"
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with atomic_folder(destination, replaces=earlier) as staging:
                (staging / "a.txt").write_text("next")
        with atomic_folder(destination, replaces=earlier) as staging:
            (staging / "a.txt").write_text("last")
        assert reader.wait(20) == 0


def test_a_rewritten_file_is_never_seen_half_written(tmp_path):
    file = tmp_path / "metrics.jsonl"
    atomic_write(file, "a")
    with file.open() as reader:
        atomic_write(file, "longer")
        assert reader.read() == "a"
    assert file.read_text() == "longer"
    assert names(tmp_path) == ["metrics.jsonl"]
