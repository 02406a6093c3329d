import shutil
import tempfile
from pathlib import Path

import pytest
from support.nightly_runs import make_model

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The directory of a small model that predicts the pedestrian attributes."""
    return make_model(tmp_path_factory.mktemp("model"), "apr", PEDESTRIAN_SCHEMA)


@pytest.fixture(scope="module")
def short_folder():
    """A folder with a short path, as the paths of Ray's sockets have 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
