"""Run steps on a store in processes that are killed, and search the files of the store."""

import hashlib
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reidray.config.scoring import ForgetConfig
from reidray.errors import UserError
from reidray.inference.distributed.task_runner import LocalTasks
from reidray.inference.predictions import PredictionShape
from reidray.scoring.stages.replaced_embeddings import remove_replaced
from reidray.scoring.store.deletion import forget
from reidray.scoring.store.embedding_store import EmbeddingStore, open_parts
from reidray.storage.location import Location
from support.store_nights import rank_night
from support.store_rows import append_rows, image_table, part_rows

SHAPE = PredictionShape(4, 2)


def image_names_of(person):
    """Return the image names of a person."""
    return [f"{person:04d}_c{camera}_001.jpg" for camera in (1, 2)]


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def embedding_value(person):
    """Return the number that a person's embeddings repeat."""
    return 1234.5 + person


def image_rows(paths, stamp="s"):
    return [("/data", path, stamp, digest(path), None) for path in paths]


def predictions_of(people):
    predictions = SHAPE.empty(2 * len(people))
    predictions.attribute_labels[:] = 1
    predictions.uncertainty[:] = 0.5
    predictions.embeddings[:] = np.repeat([embedding_value(person) for person in people], 2)[
        :, None
    ]
    return predictions


def embed(uri, model, people, *, full=False):
    """Embed the images of some people as a nightly run does, each person in a part."""
    with open_parts(uri) as parts:
        store = EmbeddingStore(parts, model, SHAPE, replace_existing=full)
        for person in people:
            append_rows(store, image_rows(image_names_of(person)), predictions_of([person]))
        remove_replaced(LocalTasks(), store)


def embed_in_files(uri, model, people):
    """Embed the images of some people as the workers of a cluster do, and commit them together."""
    with open_parts(uri) as parts:
        store, files = EmbeddingStore(parts, model, SHAPE), []
        for person in people:
            images = image_table(image_rows(image_names_of(person)))
            rows = part_rows(images, predictions_of([person]), model)
            files.append(replace(parts.write_file(rows.to_parquet()), summary=rows.summary))
        store.commit(files)


def forget_person(uri, person):
    return forget(ForgetConfig(store=uri, person=str(person)))


def rank(uri, night):
    """Rank a night, and keep its ranking."""
    with tempfile.TemporaryDirectory() as work:
        ranked = rank_night(uri, work, night, top_k=3)
    assert ranked.lines == ranked.alone


STEPS = {
    "embed": embed,
    "files": embed_in_files,
    "full": partial(embed, full=True),
    "forget": forget_person,
    "rank": rank,
}


def run_steps(uri, steps):
    for name, arguments in steps:
        with suppress(UserError):  # nobody of this name
            STEPS[name](uri, *arguments)


def _die_at(uri, steps, at):
    """Run steps, and kill the process before an operation on the store, by its number."""
    done = 0

    def count(event, arguments):
        nonlocal done
        if event == "open" or event.startswith("os."):
            paths = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
            if any(path.startswith(uri) for path in paths):
                done += 1
                if done == at:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    run_steps(uri, steps)


def run_killed(uri, steps, at):
    """Run steps in a process that is killed; return whether it was killed before they ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["reidray.scoring.store.deletion", "reidray.scoring.stages.replaced_embeddings"]
    )
    child = context.Process(target=_die_at, args=(uri, steps, at))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def find_traces(files, person):
    """Return the names of files that still hold something of a person."""
    words = [name.encode() for name in image_names_of(person)]
    words += [digest(name) for name in image_names_of(person)]
    words.append(struct.pack("<f", embedding_value(person)) * SHAPE.embedding_size)
    return [name for name, data in files if _holds(data, words)]


def _holds(data, words):
    decoded = b""
    if data:
        with suppress(pa.ArrowException):
            table = pq.ParquetFile(BytesIO(data)).read()
            plain = BytesIO()
            with pa.ipc.new_stream(plain, table.schema) as stream:
                stream.write_table(table)
            decoded = plain.getvalue()
    return any(word in data or word in decoded for word in words)


def files_on_disk(folder):
    """Return every file under a folder, with hidden ones."""
    return [(str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]


def files_in_bucket(s3, bucket):
    """Yield every version of every object of a bucket."""
    found = s3.call_s3("list_object_versions", Bucket=bucket)
    for version in found.get("Versions", []):
        body = s3.open(
            f"{bucket}/{version['Key']}", version_id=version["VersionId"], mode="rb"
        ).read()
        yield version["Key"], body


def write_legacy_store(uri, images, embeddings, day="2026-01-31"):
    """Write a store of the earlier layout: a file of names, and one of each person's embeddings."""
    location = Location(uri)
    if images:
        paths = [name for person in images for name in image_names_of(person)]
        _write_table(location, f"images/day={day}/a.parquet", image_table(image_rows(paths)))
    for number, person in enumerate(embeddings):
        predictions = predictions_of([person])
        values = pa.array(predictions.embeddings.ravel())
        table = pa.table(
            {
                "content": pa.array(map(digest, image_names_of(person)), pa.binary(32)),
                "embedding": pa.FixedSizeListArray.from_arrays(values, SHAPE.embedding_size),
                "codes": pa.array(predictions.attribute_labels.tolist(), pa.list_(pa.int8())),
                "doubt": predictions.uncertainty,
            }
        )
        _write_table(location, f"embeddings/model=m/day={day}/{number}.parquet", table)


def _write_table(location, path, table):
    data = BytesIO()
    pq.write_table(table, data)
    location.write_bytes(path, data.getvalue())
