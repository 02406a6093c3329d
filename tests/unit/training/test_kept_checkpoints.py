"""A checkpoint that cannot be written whole ends a training without Ray, and leaves no part."""

import pytest

from reidray.errors import MachineError
from reidray.storage.location import Location
from reidray.training.execution.single_process import _RunCallback
from reidray.training.runs.checkpoint_files import keep_checkpoint


def test_a_checkpoint_that_fails_leaves_no_part(tmp_path):
    checkpoint = tmp_path / "new"
    (checkpoint / "unreadable").mkdir(parents=True)  # a folder, which cannot be read as a file
    (checkpoint / "best.safetensors").write_bytes(b"weights")
    run = tmp_path / "run"
    with pytest.raises(OSError, match="unreadable"):
        keep_checkpoint(Location(str(run)), checkpoint)
    assert list((run / "checkpoints").iterdir()) == []


def test_a_failure_of_the_disk_is_one_line(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("no folder")
    folder = tmp_path / "new"
    folder.mkdir()
    callback = _RunCallback(lambda _: None, Location(str(tmp_path / "run")), folder)
    with pytest.raises(MachineError, match=r"epoch 3 cannot be written .*`resume`"):
        callback.on_epoch_end({"epoch": 3}, lambda place: (place / "state.json").write_text("{}"))
