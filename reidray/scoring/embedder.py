"""Embed images and predict their attributes in one Ray Data pass over a pool of actors.

The same images give the same embeddings, bit by bit, on any number of workers, in blocks of any
size and beside any other images: every pass runs over exactly `BATCH` crops, each of which is
computed alike wherever it stands, and an actor computes in one thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from reidray.data import object_store
from reidray.data.decoding import decode_files
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.models import LoadedModel, NetworkSpec
from reidray.models.registry import build_network
from reidray.progress import Counter
from reidray.scoring.digests import known_among
from reidray.scoring.predictions import Predictions, Shape
from reidray.session import cluster_cpus, cluster_gpus

BATCH = 64
BLOCKS_PER_CPU = 8
LARGEST_BLOCK = 32
CPUS_EACH = 0.5
"""What an actor and a decoding task ask for; both are busy half of the time, one with the other."""

DECODED_SCHEMA = pa.schema(
    {
        "set": pa.int64(),
        "rows": pa.list_(pa.int64()),
        "contents": pa.list_(pa.binary()),
        "kept": pa.list_(pa.int64()),
        "crops": pa.large_binary(),
        "bad": pa.list_(pa.int64()),
        "reasons": pa.list_(pa.string()),
        "retries": pa.int64(),
    }
)


@dataclass(frozen=True)
class ImageSet:
    """Images to embed.

    Attributes:
        location: the folder the paths are relative to.
        paths: N of them.
    """

    location: Location
    paths: tuple[str, ...]


@dataclass(frozen=True)
class EmbeddedBatch:
    """What came of some images of a set that were read together.

    Attributes:
        set: which of the sets, by its place.
        rows: their indices in the set's paths.
        contents: for each the SHA-256 of its file; empty where it could not be read.
        kept: (M,) int64, places in `rows` of those that were embedded.
        predictions: what the model says of these.
        bad: places in `rows` of those that did not decode.
        reasons: why, for each of these.
        retries: requests to an object store that were sent again.
    """

    set: int
    rows: Sequence[int]
    contents: Sequence[bytes]
    kept: NDArray[np.int64]
    predictions: Predictions
    bad: Sequence[int]
    reasons: Sequence[str]
    retries: int


@dataclass(frozen=True)
class Pool:
    """The embedding processes.

    Attributes:
        workers: how many.
        on_gpu: whether each has a GPU.
    """

    workers: int
    on_gpu: bool


def plan_pool(num_workers: int | None, use_gpu: Literal["auto", "yes", "no"]) -> Pool:
    """The pool that was asked for; by default one worker for each GPU, or each CPU.

    Half a CPU is left for the tasks that decode, or an actor pool would wait for ever.

    Raises:
        UserError: the cluster cannot place it.
    """
    cpus, gpus = cluster_cpus(), cluster_gpus()
    if use_gpu == "yes" and not gpus:
        raise UserError("--use-gpu yes: the cluster has no GPU; use --use-gpu auto")
    on_gpu = gpus > 0 and use_gpu != "no"
    most = int((cpus - CPUS_EACH) / CPUS_EACH)
    most = min(most, gpus) if on_gpu else most
    workers = num_workers or (min(gpus, most) if on_gpu else min(cpus, most))
    if not 1 <= workers <= most:
        raise UserError(
            f"--num-workers {workers}: the cluster has {cpus} CPUs and {gpus} GPUs and can place "
            f"{max(most, 0)} embedding workers; ask for fewer or start a larger cluster"
        )
    return Pool(workers, on_gpu)


def shape_of(model: LoadedModel) -> Shape:
    """What the model says of one image."""
    return Shape(model.network.embedding_size, len(model.spec.schema.names))


def embed_images(
    model: LoadedModel,
    sets: Sequence[ImageSet],
    wanted: Sequence[NDArray[np.int64]],
    pool: Pool,
    known: NDArray[np.bytes_] | None = None,
) -> Iterator[EmbeddedBatch]:
    """Embed images of some sets in one pass; batches come in no order.

    Args:
        model: what embeds.
        sets: the images.
        wanted: of each set the rows to embed.
        pool: the processes.
        known: sorted digests, (N,) S32, of contents that need not be decoded, whatever their name.
    """
    size = (model.spec.height, model.spec.width)
    shape = shape_of(model)
    plan = _plan_blocks(sets, wanted, target=cluster_cpus() * BLOCKS_PER_CPU)
    dataset = (
        ray.data.from_arrow(plan)
        .map_batches(
            _decode_batches,
            fn_kwargs={"size": size, "known": None if known is None else ray.put(known)},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=CPUS_EACH,
        )
        .map_batches(
            Embedder,
            fn_constructor_args=(
                ray.put(model.network.state_dict()),
                model.spec,
                "cuda" if pool.on_gpu else "cpu",
            ),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=pool.workers),
            num_cpus=CPUS_EACH,
            num_gpus=1 if pool.on_gpu else 0,
        )
    )
    with Counter("embedding", total=sum(map(len, wanted)), unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in table.to_pylist():
                yield _read_batch(row, shape)
                counter.advance(len(row["rows"]))


class Embedder:
    """An actor that holds the network and embeds ready batches."""

    def __init__(self, weights: "ray.ObjectRef[object]", spec: NetworkSpec, device: str) -> None:
        torch.set_num_threads(1)
        torch.backends.cudnn.deterministic = True
        self._size = (spec.height, spec.width)
        self._device = torch.device(device)
        network = build_network(spec)
        network.load_state_dict(ray.get(weights))
        self._network = network.eval().to(self._device)

    def __call__(self, batches: pa.Table) -> pa.Table:
        """Replace the crops by what the model says of them."""
        found = [
            self._embed(np.frombuffer(crops.as_buffer(), dtype=np.uint8)).to_bytes()
            for crops in batches["crops"]
        ]
        done = batches.drop_columns(["crops"])
        for name in found[0]:
            column = pa.array([predicted[name] for predicted in found], pa.large_binary())
            done = done.append_column(name, column)
        return done

    def _embed(self, pixels: NDArray[np.uint8]) -> Predictions:
        crops = pixels.reshape(-1, *self._size, 3)
        padded = np.zeros((BATCH, *self._size, 3), dtype=np.uint8)
        padded[: len(crops)] = crops
        with torch.inference_mode():
            outputs = self._network(torch.from_numpy(padded).permute(0, 3, 1, 2).to(self._device))
        predicted = [values.argmax(dim=1).cpu().numpy() for values in outputs.attributes]
        codes = np.stack(predicted, axis=1) if predicted else np.empty((BATCH, 0), dtype=np.int64)
        embeddings = outputs.embedding.float().cpu().numpy()
        return Predictions(embeddings, codes).take(slice(len(crops)))


def _plan_blocks(
    sets: Sequence[ImageSet], wanted: Sequence[NDArray[np.int64]], target: int
) -> list[pa.Table]:
    """Batches of names, a row each, in about `target` blocks.

    Columns: `set` int64, `root` string, `rows` and `paths`, lists of the images' indices in the set
    and their paths.
    """
    batches = [
        {
            "set": number,
            "root": images.location.uri,
            "rows": together,
            "paths": [images.paths[row] for row in together],
        }
        for number, (images, rows) in enumerate(zip(sets, wanted, strict=True))
        for together in _in_batches(rows.tolist())
    ]
    table = pa.Table.from_pylist(batches)
    rows = min(LARGEST_BLOCK, -(-len(batches) // target))
    return [table.slice(start, rows) for start in range(0, len(batches), rows)]


def _in_batches(rows: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _decode_batches(
    plan: pa.Table, size: tuple[int, int], known: "ray.ObjectRef[Any] | None"
) -> Iterator[pa.Table]:
    """Decode planned batches, one at a time."""
    is_known = None if known is None else known_among(ray.get(known))
    for row in plan.to_pylist():
        before = object_store.retries_so_far()
        decoded = decode_files(Location(row["root"]), row["paths"], size, known=is_known)
        place = {path: number for number, path in enumerate(row["paths"])}
        batch = {
            "set": row["set"],
            "rows": row["rows"],
            "contents": list(decoded.contents),
            "kept": list(decoded.kept),
            "crops": decoded.crops.tobytes(),
            "bad": [place[image.path] for image in decoded.bad],
            "reasons": [image.reason for image in decoded.bad],
            "retries": object_store.retries_so_far() - before,
        }
        yield pa.Table.from_pylist([batch], schema=DECODED_SCHEMA)


def _read_batch(row: dict[str, Any], shape: Shape) -> EmbeddedBatch:
    return EmbeddedBatch(
        set=row["set"],
        rows=row["rows"],
        contents=row["contents"],
        kept=np.array(row["kept"], dtype=np.int64),
        predictions=Predictions.from_bytes(row, shape, len(row["kept"])),
        bad=row["bad"],
        reasons=row["reasons"],
        retries=row["retries"],
    )
