import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import s3fs
from support.paths import ROOT
from support.store_rows import append_rows, find_stored
from support.store_runs import files_on_disk, write_legacy_store

from reidray.config.scoring import ForgetConfig
from reidray.errors import UserError
from reidray.inference.distributed.task_runner import LocalTasks
from reidray.inference.predictions import PredictionShape
from reidray.scoring.stages.replaced_embeddings import remove_replaced
from reidray.scoring.store.deletion import forget
from reidray.scoring.store.embedding_store import EmbeddingStore, open_parts
from reidray.scoring.store.part_file import read_rows
from reidray.scoring.store.part_storage import PartFolder
from reidray.storage.location import Location
from reidray.storage.publishing import exclusive_writer

PATHS = ["0001_c1_001.jpg", "0001_c2_002.jpg", "sub/0002_c1_003.jpg", "anna/a.jpg", "anna/b.jpg"]
COPY = "other name.jpg"
SHAPE = PredictionShape(4, 2)


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def append(store, paths, values, *names):
    """Append embeddings of one repeated number, and more names of known contents."""
    predictions = store.shape.empty(len(paths))
    predictions.attribute_labels[:] = 0
    predictions.embeddings[:] = np.array(values)[:, None]
    predictions.uncertainty[:] = 0
    rows = [("/data", path, "s", digest(path), None) for path in paths]
    rows += [("/data", name, "s", digest(path), None) for name, path in names]
    append_rows(store, rows, predictions)


def open_s3(uri, model):
    return EmbeddingStore(PartFolder(Location(uri)), model, SHAPE)


def fill(uri):
    """Return a store of two models with five images, the first under two names."""
    with open_parts(uri) as parts:
        for model in ("one", "two"):
            store = EmbeddingStore(parts, model, SHAPE)
            append(store, PATHS[:3], range(3))
            append(store, PATHS[3:], range(3, 5), *[(COPY, PATHS[0])] * (model == "one"))
    return uri


def left(uri):
    """Return the names in a store, and the images that each model has an embedding of."""
    log = PartFolder(Location(uri))
    names, pictures = set(), []
    for part in log.find():
        names |= set(log.read(part, read_rows).table["path"].to_pylist())
    for model in ("one", "two"):
        places = find_stored(open_s3(uri, model), list(map(digest, PATHS)))
        pictures.append({path for path, place in zip(PATHS, places, strict=True) if place})
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
    assert told["searched"] == 2 * len(pictures[0]) + (COPY in names)


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
    assert all(line["when"] < line["completed"] for line in lines)
    said = [
        value for line in lines for key, value in line.items() if key not in ("when", "completed")
    ]
    hidden = ("anna", "0001", digest(PATHS[0]).hex())  # microseconds may hold 0001
    assert not any(name in str(value) for name in hidden for value in said)


def test_what_was_made_before_a_day_goes_and_the_names_of_which_nothing_is_left(
    tmp_path, monkeypatch
):
    store = str(tmp_path / "store")
    monkeypatch.setattr("reidray.scoring.store.part_file.datetime", Day("2026-01-31"))
    append(open_s3(store, "one"), PATHS[:3], range(3), ("torn.jpg", "torn"))
    monkeypatch.setattr("reidray.scoring.store.part_file.datetime", Day("2026-02-01"))
    append(open_s3(store, "one"), PATHS[3:], range(3, 5))
    append(open_s3(store, "two"), PATHS[1:], range(1, 5))
    with pytest.raises(UserError, match="holds nothing of the days before 2026-01-31"):
        forget(ForgetConfig(store=store, before="2026-01-31"))
    told = forget(ForgetConfig(store=store, before="2026-02-01"))
    assert (told["images"], told["embeddings"]) == (2, 3)  # the other model still has two of them
    names, pictures = left(store)
    assert pictures == [set(PATHS[3:]), set(PATHS[1:])]
    assert names == set(PATHS[1:])
    assert forget(ForgetConfig(store=store, before="2026-02-02"))["searched"] == 0
    assert not any(path.stat().st_size for path in (tmp_path / "store").rglob("*.parquet"))


class Day:
    """Give the same time always."""

    def __init__(self, day):
        self._day = datetime.fromisoformat(day)

    def now(self, zone):
        return self._day.replace(tzinfo=zone)


def test_the_same_picture_in_another_file_is_told_of(tmp_path):
    store = fill(str(tmp_path / "store"))
    append(open_s3(store, "one"), ["again"], [0])
    assert forget(ForgetConfig(store=store, image=PATHS[0]))["nearest_left"] == 0


@pytest.fixture
def s3(bucket):
    """Return a client of the bucket's server; the bucket keeps versions."""
    client = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    versioning = {"Status": "Enabled"}
    client.call_s3("put_bucket_versioning", Bucket=bucket[5:], VersioningConfiguration=versioning)
    return client


def old_versions(s3, bucket):
    """Return the old versions in a bucket, but for those of the lock."""
    found = s3.call_s3("list_object_versions", Bucket=bucket[5:])
    old = [each for each in found.get("Versions", []) if not each["IsLatest"]]
    old += found.get("DeleteMarkers", [])
    return {each["Key"] for each in old if not each["Key"].endswith("writing.json")}


def test_versions_that_a_bucket_keeps_are_gone_too(bucket, s3):
    store = f"{bucket}/store"
    fill(store)
    replacing = EmbeddingStore(PartFolder(Location(store)), "one", SHAPE, replace_existing=True)
    append(replacing, PATHS[2:], range(2, 5))
    remove_replaced(LocalTasks(), replacing)
    s3.call_s3("create_multipart_upload", Bucket=bucket[5:], Key="store/parts/00000009.parquet")
    s3.call_s3("create_multipart_upload", Bucket=bucket[5:], Key="elsewhere")
    for data in (b"one", b"two"):
        Location(f"{bucket}/store").write_bytes("notes.txt", data)
    s3.call_s3("put_object", Bucket=bucket[5:], Key="store/parts/", Body=b"")  # stands for a folder
    told = forget(ForgetConfig(store=store, person="1"))
    assert told["removed"] >= 3
    assert old_versions(s3, bucket) == {"store/notes.txt"}
    uploads = s3.call_s3("list_multipart_uploads", Bucket=bucket[5:])["Uploads"]
    assert [each["Key"] for each in uploads] == ["elsewhere"]
    with pytest.raises(UserError, match="holds no person of this name"):
        forget(ForgetConfig(store=store, person="1"))


@pytest.mark.parametrize(
    ("denied", "right"),
    [("versions", "s3:ListBucketVersions"), ("delete", "s3:DeleteObjectVersion")],
)
def test_every_forget_fails_until_old_versions_can_be_removed(
    bucket, s3, unreliable, denied, right
):
    store = fill(f"{bucket}/store")
    unreliable.denied_calls = (denied,)
    for asked in ({"person": "1"}, {"person": "nobody"}):
        with pytest.raises(UserError, match=right):
            forget(ForgetConfig(store=store, **asked))
    unreliable.denied_calls = ()
    told = forget(ForgetConfig(store=store, person="1"))
    assert (told["images"], told["embeddings"]) == (3, 4)
    assert not old_versions(s3, bucket)
    lines = Location(store).read_bytes("forgotten.jsonl").decode().splitlines()
    assert all(json.loads(line)["completed"] for line in lines)


def test_a_nightly_run_that_stood_still_while_a_person_was_forgotten_writes_nothing_back(store):
    late = open_s3(store, "one")
    forget(ForgetConfig(store=store, person="1"))
    with pytest.raises(UserError, match="another run began to write it"):
        append(late, PATHS[:2], range(2))
    assert left(store)[1] == [set(PATHS[2:])] * 2


def test_a_forget_that_finds_nobody_keeps_earlier_writers_out_as_well(tmp_path):
    store = fill(str(tmp_path / "store"))
    late = open_s3(store, "one")
    with pytest.raises(UserError, match="holds no person of this name"):
        forget(ForgetConfig(store=store, person="nobody"))
    with pytest.raises(UserError, match="another run began to write it"):
        append(late, ["nobody/a.jpg"], [1])


def test_a_dry_run_changes_nothing_of_a_store_of_either_layout(tmp_path):
    fill(str(tmp_path / "parts"))
    write_legacy_store(str(tmp_path / "earlier"), images=[1, 2], embeddings=[1, 2])
    before = files_on_disk(tmp_path)
    for name, images, embeddings in (("parts", 3, 4), ("earlier", 2, 2)):
        store = str(tmp_path / name)
        told = forget(ForgetConfig(store=store, person="1", dry_run=True))
        assert (told["images"], told["embeddings"], len(told["names"])) == (
            images,
            embeddings,
            images,
        )
        with pytest.raises(UserError, match="holds no person of this name"):
            forget(ForgetConfig(store=store, person="nobody", dry_run=True))
    assert files_on_disk(tmp_path) == before


def test_a_forget_that_stood_still_while_another_ran_writes_nothing_back(bucket):
    store = fill(f"{bucket}/store")
    log = PartFolder(Location(store))
    part = log.find()[0]
    rows = log.read(part, read_rows)
    forget(ForgetConfig(store=store, person="1"))
    with pytest.raises(UserError, match="another run began to write it"):
        log.replace(part, rows.to_parquet())
    assert left(store)[1] == [set(PATHS[2:])] * 2


LEFT_BY_KILLS = (
    *("parts/.00000009.parquet.part", ".forgotten.jsonl.part"),
    *("images/day=2026-01-31/.a.parquet.part", "embeddings/model=m/day=2026-01-31/.b.parquet.part"),
)


@pytest.mark.parametrize("next_run", ["forget", "night"])
def test_what_a_killed_run_left_half_written_is_removed_by_the_next(tmp_path, next_run):
    store = fill(str(tmp_path / "store"))
    for name in LEFT_BY_KILLS:
        (tmp_path / "store" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / name).write_bytes(b"half")
    if next_run == "forget":
        assert forget(ForgetConfig(store=store, person="1"))["removed"] >= 3
    else:
        with open_parts(store):
            pass
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]


def test_files_that_a_store_did_not_write_are_named_and_not_deleted(tmp_path, caplog):
    store = fill(str(tmp_path / "store"))
    (tmp_path / "store" / "notes.txt").write_text("mine")
    (tmp_path / "store" / "sub").mkdir()
    (tmp_path / "store" / "sub" / "mine.parquet").write_text("mine")
    assert forget(ForgetConfig(store=store, person="anna"))["images"] == 2
    assert "2 files there are no part of the store and are left alone" in caplog.text
    before = left(store)
    for name in ("00000001 (copy).txt", "00000001-copy.parquet"):
        copy = tmp_path / "store" / "parts" / name
        copy.write_bytes(b"a copy of a part")
        with pytest.raises(UserError, match=r"copy.*: lies among the parts.*delete it"):
            forget(ForgetConfig(store=store, person="1"))
        assert left(store) == before
        copy.unlink()
    assert (tmp_path / "store" / "notes.txt").exists()


@pytest.mark.parametrize("text", ["not JSON", "{}", "[" * 9999])
def test_a_damaged_audit_is_named(tmp_path, text):
    store = fill(str(tmp_path / "store"))
    (tmp_path / "store" / "forgotten.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"forgotten\.jsonl: is damaged .*repair it"):
        forget(ForgetConfig(store=store, person="1"))


def test_a_link_in_the_place_of_the_parts_is_refused(tmp_path):
    store = fill(str(tmp_path / "store"))
    (tmp_path / "store" / "parts").rename(tmp_path / "elsewhere")
    (tmp_path / "store" / "parts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"store/parts: is a link.* put the folder itself there"):
        forget(ForgetConfig(store=store, person="1"))


def test_a_download_of_others_is_neither_a_store_nor_removed(tmp_path):
    (tmp_path / ".film.mp4.part").write_bytes(b"half of a film")
    with pytest.raises(UserError, match="is no store of embeddings"):
        forget(ForgetConfig(store=str(tmp_path), person="1"))
    fill(str(tmp_path))
    assert forget(ForgetConfig(store=str(tmp_path), person="1"))["images"] == 3
    assert (tmp_path / ".film.mp4.part").read_bytes() == b"half of a film"


def test_a_store_that_cannot_be_looked_through_is_named_in_one_line(bucket, unreliable):
    with pytest.raises(UserError, match=r"s3://no-such-bucket-here/store: .*check the address"):
        forget(ForgetConfig(store="s3://no-such-bucket-here/store", person="1"))
    store = fill(f"{bucket}/store")
    unreliable.left = 0
    with pytest.raises(UserError, match="grant s3:ListBucketVersions"):
        forget(ForgetConfig(store=store, person="1", dry_run=True))


def run_job(*arguments):
    command = [sys.executable, ROOT / "jobs" / "forget.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_job_says_what_it_did_and_what_is_wrong_in_one_line(tmp_path):
    store = fill(str(tmp_path / "store"))
    done = run_job("--store", store, "--person", 1)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["embeddings"] == 4
    done = run_job("--store", store, "--person", "anna", "--dry-run")
    told = json.loads(done.stdout)
    assert told["names"] == ["/data/anna/a.jpg", "/data/anna/b.jpg"]
    assert (told["images"], told["embeddings"], told["files"]) == (2, 4, 2)
    assert "nothing was changed" in done.stderr
    before = left(store)
    done = run_job("--store", store, "--person", "-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--person -1 is nobody in particular" in done.stderr
    assert done.stderr.count("\n") == 1
    for asked in ({"image": "."}, {"image": "/"}, {"person": "."}, {"person": "1" * 5000}):
        with pytest.raises(UserError, match="of this name; check the name"):
            forget(ForgetConfig(store=store, **asked))
    assert left(store) == before


def test_distractors_and_junk_are_deleted_by_their_own_words(tmp_path):
    store = str(tmp_path / "store")
    names = ["0000_c1_001.jpg", "-1_c1_001.jpg", "0010_c1_001.jpg", "sub/junk/a.jpg"]
    append(open_s3(store, "one"), names, range(4))
    assert forget(ForgetConfig(store=store, person="distractors"))["images"] == 1
    assert forget(ForgetConfig(store=store, person="junk"))["images"] == 2
    assert left(store)[0] == {names[2]}


@pytest.mark.parametrize("person", ["7", "0007", "anna"])
def test_a_person_is_forgotten_from_every_folder_that_the_person_has(tmp_path, person):
    store = str(tmp_path / "store")
    folder = "0007" if person != "anna" else person
    meant = [f"{folder}/a.png", f"{folder}/cam2/b.png", f"query/cam1/{folder}/tracklet3/c.png"]
    others = [f"0008/{person}.png", "8/cam7/d.png", "annabel/e.png", f"{folder}_/f.png"]
    append(open_s3(store, "one"), meant + others, range(7))
    assert forget(ForgetConfig(store=store, person=person))["images"] == 3
    assert left(store)[0] == set(others)


@pytest.mark.parametrize(
    ("asked", "going"),
    [
        ("*/2", {"7/2/a.png", "8/0002/b.png", "9/2/c.png"}),
        ("7/2", {"7/2/a.png"}),
        ("9/2/", {"9/2/c.png"}),
        ("/data/8/2", {"8/0002/b.png"}),
    ],
)
def test_a_folder_below_others_is_a_person_s_only_where_it_is_given_with_them(
    tmp_path, asked, going
):
    store = str(tmp_path / "store")
    kept = {"7/1/d.png", "12/e.png", "7/22/f.png"}
    cameras = {"7/2/a.png", "8/0002/b.png", "9/2/c.png"}
    append(open_s3(store, "one"), sorted(cameras | kept), range(6))
    with pytest.raises(UserError, match=r"7/2/ may be a person's, .* `person='\*/2'` for all"):
        forget(ForgetConfig(store=store, person="2"))
    assert left(store)[0] == cameras | kept
    forget(ForgetConfig(store=store, person=asked))
    assert left(store)[0] == (cameras | kept) - going


def test_a_scored_folder_that_is_called_as_the_person_is_has_to_be_given_whole(tmp_path):
    store = str(tmp_path / "store")
    append(open_s3(store, "one"), ["a.png", "cam1/b.png"], range(2))
    with pytest.raises(UserError, match="the scored folder /data is called so"):
        forget(ForgetConfig(store=store, person="data"))
    assert forget(ForgetConfig(store=store, person="/data"))["images"] == 2


NOT_MEANT = {
    "image": ["", " "],
    "person": ["", "\t", "0", "0000", "-1", " -1 ", "+0"],
    "before": [
        *("", "yesterday", "20260101", "2026-W01-1", "2026-1-1", "2026-13-01", "2026-01-01T00:00"),
        *(" 2026-01-01", "٢٠٢٦-01-01", "9999-12-31"),
    ],
}


@pytest.mark.parametrize(
    ("selector", "value"), [(key, value) for key, values in NOT_MEANT.items() for value in values]
)
def test_a_selector_that_would_delete_more_than_was_meant_is_refused(selector, value):
    with pytest.raises(ValueError, match=rf"^`{selector}` .*(expected|give)"):
        ForgetConfig(store="store", **{selector: value})


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one of `image`, `person` and `before`"):
        ForgetConfig(store="store")
    with pytest.raises(UserError, match="is no store of embeddings"):
        forget(ForgetConfig(store=str(tmp_path / "nowhere"), image="x"))
    assert not list(tmp_path.iterdir())


def test_nothing_is_forgotten_while_a_nightly_run_writes_the_store(tmp_path):
    store = fill(str(tmp_path / "store"))
    with (
        exclusive_writer(Location(store)),
        pytest.raises(UserError, match="another run is writing"),
    ):
        forget(ForgetConfig(store=store, person="1"))
    assert left(store)[1] == [set(PATHS)] * 2
