import subprocess
import sys
import time

import pytest
from tiny_images import write_images

from reidray.data.outputs import staged_directory, write_whole
from reidray.errors import UserError


def names(folder):
    return [path.name for path in folder.iterdir()]


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_an_output_appears_whole_and_only_at_the_end(tmp_path):
    destination = tmp_path / "deep" / "out"
    with staged_directory(destination) as staging:
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
        with staged_directory(destination, replaces=earlier) as staging:
            (staging / f"{'a' if text == 'old' else 'b'}.txt").write_text(text)
            assert not destination.exists() or contents(destination) == {"a.txt": "old"}
    assert contents(destination) == {"b.txt": "new"}
    assert names(tmp_path) == ["out"]


def write_half_and_fail(destination, failure):
    with staged_directory(destination, replaces=frozenset({"a.txt"})) as staging:
        (staging / "a.txt").write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_and_nothing_else(tmp_path, failure):
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / "a.txt").write_text("old")
    with pytest.raises(failure):
        write_half_and_fail(destination, failure)
    assert contents(destination) == {"a.txt": "old"}
    assert names(tmp_path) == ["out"]


def test_what_is_not_an_earlier_output_is_never_lost(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for replaces in (frozenset(), frozenset({"a.txt"})):
        with (
            pytest.raises(UserError, match=r"'thesis\.tex', which would be lost"),
            staged_directory(tmp_path, replaces=replaces),
        ):
            pytest.fail("work began")
    assert contents(tmp_path) == {"thesis.tex": "years"}


def test_what_came_during_the_work_is_not_lost_either(tmp_path):
    destination = tmp_path / "out"
    with pytest.raises(UserError, match="would be lost"), staged_directory(destination):
        write_images(destination, ["family.jpg"])
    assert names(destination) == ["family.jpg"]


def test_an_empty_folder_may_be_the_destination(tmp_path):
    (tmp_path / "out").mkdir()
    with staged_directory(tmp_path / "out") as staging:
        (staging / "a.txt").write_text("new")
    assert contents(tmp_path / "out") == {"a.txt": "new"}


def test_a_place_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    for destination in (tmp_path / "file", tmp_path / "file" / "out", "/proc/out"):
        with pytest.raises(UserError), staged_directory(type(tmp_path)(destination)):
            pytest.fail("work began")


def test_a_reader_never_finds_the_output_missing_while_it_is_replaced(tmp_path):
    destination = tmp_path / "out"
    earlier = frozenset({"a.txt"})
    watch = (
        "import sys, pathlib\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while file.read_text() != 'last': pass\n"
    )
    with staged_directory(destination) as staging:
        (staging / "a.txt").write_text("first")
    command = [sys.executable, "-c", watch, str(destination / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "ready\n"
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with staged_directory(destination, replaces=earlier) as staging:
                (staging / "a.txt").write_text("next")
        with staged_directory(destination, replaces=earlier) as staging:
            (staging / "a.txt").write_text("last")
        assert reader.wait(20) == 0


def test_a_rewritten_file_is_never_seen_half_written(tmp_path):
    file = tmp_path / "metrics.jsonl"
    write_whole(file, "a")
    with file.open() as reader:
        write_whole(file, "longer")
        assert reader.read() == "a"
    assert file.read_text() == "longer"
    assert names(tmp_path) == ["metrics.jsonl"]
