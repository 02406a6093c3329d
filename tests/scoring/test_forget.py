import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from reidray.data.publishing import only_writer_of
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.scoring.config import ForgetConfig
from reidray.scoring.forgetting import forget
from reidray.scoring.predictions import Shape
from reidray.scoring.store import EmbeddingStore, images_table

ROOT = Path(__file__).parents[2]
PATHS = ["0001_c1_001.jpg", "0001_c2_002.jpg", "sub/0002_c1_003.jpg", "anna/a.jpg", "anna/b.jpg"]
COPY = "other name.jpg"
SHAPE = Shape(4, 2)


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def append(store, texts, values):
    """Keep embeddings that are all one number."""
    predictions = store.shape.empty(len(texts))
    predictions.codes[:] = 0
    predictions.embeddings[:] = np.array(values)[:, None]
    store.append([digest(text) for text in texts], predictions)


def fill(uri):
    """A store of two models' embeddings of five pictures, of which the first has two names."""
    location = Location(uri)
    table = images_table(location)
    seen = [(path, digest(path)) for path in PATHS] + [(COPY, digest(PATHS[0]))]
    for part in (seen[:2], seen[2:]):
        rows = [
            {"folder": "/data", "path": path, "stamp": "s", "content": content, "reason": None}
            for path, content in part
        ]
        table.append(pa.Table.from_pylist(rows, schema=table.schema))
    for model in ("one", "two"):
        store = EmbeddingStore(location, model, SHAPE)
        for paths in (PATHS[:3], PATHS[3:]):
            append(store, paths, [PATHS.index(path) for path in paths])
    return uri


def left(uri):
    """The names in a store, and the pictures that each model has an embedding of."""
    location = Location(uri)
    table = images_table(location)
    names = {name for part in table.parts() for name in table.read(part)["path"].to_pylist()}
    pictures = []
    for model in ("one", "two"):
        store = EmbeddingStore(location, model, SHAPE)
        rows = store.rows_of(pa.array(map(digest, PATHS), pa.binary(32)))
        pictures.append({path for path, row in zip(PATHS, rows, strict=True) if row >= 0})
    return names, pictures


@pytest.fixture(params=["disk", "bucket"])
def store(request, tmp_path):
    if request.param == "disk":
        return fill(str(tmp_path / "store"))
    return fill(f"{request.getfixturevalue('bucket')}/store")


@pytest.mark.parametrize(
    ("asked", "gone", "images"),
    [
        ({"image": PATHS[0]}, PATHS[:1], 2),
        ({"image": COPY}, PATHS[:1], 2),
        ({"image": f"/data/{PATHS[1]}"}, PATHS[1:2], 1),
        ({"person": "1"}, PATHS[:2], 3),
        ({"person": "0002"}, PATHS[2:3], 1),
        ({"person": "anna"}, PATHS[3:], 2),
    ],
)
def test_a_picture_or_a_person_is_gone_from_every_model_and_under_every_name(
    tmp_path, asked, gone, images
):
    store = fill(str(tmp_path / "store"))
    told = forget(ForgetConfig(store=store, **asked))
    assert (told["images"], told["embeddings"]) == (images, 2 * len(gone))
    names, pictures = left(store)
    assert pictures == [set(PATHS) - set(gone)] * 2
    assert names == ({*PATHS} - {*gone}) | ({COPY} if PATHS[0] not in gone else set())
    assert told["nearest_left"] > 0
    assert told["searched"] == len(names) + 2 * len(pictures[0])


def test_the_audit_says_what_kind_how_many_and_when_and_not_who(store):
    begun = datetime.now(UTC) - timedelta(seconds=2)
    for asked in ({"image": "anna/a.jpg"}, {"person": "1"}):
        forget(ForgetConfig(store=store, **asked))
    text = Location(store).read_bytes("forgotten.jsonl").decode()
    lines = [json.loads(line) for line in text.splitlines()]
    counts = [(line["forgot"], line["images"], line["embeddings"]) for line in lines]
    assert counts == [("image", 1, 2), ("person", 3, 4)]
    assert left(store)[1] == [{PATHS[2], PATHS[4]}] * 2
    assert all(begun <= datetime.fromisoformat(line["when"]) for line in lines)
    assert not any(name in text for name in ("anna", "0001", digest(PATHS[0]).hex()))


def test_what_was_made_before_a_day_goes_and_the_names_of_which_nothing_is_left(tmp_path):
    store = fill(str(tmp_path / "store"))
    old = sorted((tmp_path / "store" / "embeddings" / "model=one").rglob("*.parquet"))[0]
    first_names = sorted((tmp_path / "store" / "images").rglob("*.parquet"))[0]
    for part in (old, first_names):
        earlier = part.parents[1] / "day=2026-01-31"
        earlier.mkdir(exist_ok=True)
        part.rename(earlier / part.name)
    with pytest.raises(UserError, match="holds nothing of the days before 2026-01-31"):
        forget(ForgetConfig(store=store, before="2026-01-31"))
    told = forget(ForgetConfig(store=store, before="2026-02-01"))
    assert (told["images"], told["embeddings"]) == (0, 3)  # the other model still has all
    names, pictures = left(store)
    assert pictures == [set(PATHS[3:]), set(PATHS)]
    assert names == {*PATHS, COPY}
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    assert forget(ForgetConfig(store=store, before=tomorrow))["searched"] == 0
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_the_same_picture_in_another_file_is_told_of(tmp_path):
    store = fill(str(tmp_path / "store"))
    append(EmbeddingStore(Location(store), "one", SHAPE), ["again"], [0])
    assert forget(ForgetConfig(store=store, image=PATHS[0]))["nearest_left"] == 0


def test_versions_that_a_bucket_keeps_are_gone_too(bucket):
    import s3fs

    s3 = s3fs.S3FileSystem(use_listings_cache=False, version_aware=True)
    name = bucket.removeprefix("s3://")
    s3.call_s3("put_bucket_versioning", Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    fill(f"{bucket}/store")
    forget(ForgetConfig(store=f"{bucket}/store", person="1"))
    forget(ForgetConfig(store=f"{bucket}/store", person="anna"))
    found = s3.call_s3("list_object_versions", Bucket=name, Prefix="store/embeddings")
    contents = set()
    for version in found["Versions"]:
        body = s3.open(f"{name}/{version['Key']}", version_id=version["VersionId"], mode="rb")
        contents |= set(pq.read_table(body)["content"].to_pylist())
    assert contents == {digest(PATHS[2])}


def run_job(*arguments):
    command = [sys.executable, ROOT / "jobs" / "forget.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_job_says_what_it_did_and_what_is_wrong_in_one_line(tmp_path):
    store = fill(str(tmp_path / "store"))
    done = run_job("--store", store, "--person", 1)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["embeddings"] == 4
    before = left(store)
    for arguments, named in (
        (("--person", 1, "--image", "x"), "one of --image, --person and --before"),
        (("--person", 1), "holds no person of this name"),
    ):
        done = run_job("--store", store, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert named in done.stderr
        assert done.stderr.count("\n") == 1
    assert left(store) == before


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one of --image, --person and --before"):
        ForgetConfig(store="store")
    with pytest.raises(ValueError, match="expected a day such as 2026-11-21"):
        ForgetConfig(store="store", before="yesterday")
    with pytest.raises(UserError, match="is no store of embeddings"):
        forget(ForgetConfig(store=str(tmp_path / "nowhere"), image="x"))
    assert not list(tmp_path.iterdir())


def test_nothing_is_forgotten_while_a_night_writes_the_store(tmp_path):
    store = fill(str(tmp_path / "store"))
    with only_writer_of(Location(store)), pytest.raises(UserError, match="another run is writing"):
        forget(ForgetConfig(store=store, person="1"))
    assert left(store)[1] == [set(PATHS)] * 2
