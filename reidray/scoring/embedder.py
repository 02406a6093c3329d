"""Embed images and predict their attributes in one Ray Data pass over a pool of actors.

The same images give the same embeddings, bit by bit, on any number of workers and in blocks of any
size: which images share a forward pass is planned from their names alone, every pass runs over
exactly `BATCH` crops, and an actor computes in one thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from reidray.data.decoding import BadImage, decode_files
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.models import LoadedModel, NetworkSpec
from reidray.models.registry import build_network
from reidray.progress import Counter
from reidray.retrieval.distractors import attribute_doubt
from reidray.session import cluster_cpus, cluster_gpus

BATCH = 64
BLOCKS_PER_CPU = 8
LARGEST_BLOCK = 32
CPUS_EACH = 0.5
"""What an actor and a decoding task ask for; both are busy half of the time, one with the other."""

PREDICTED = ("embeddings", "codes", "doubt")
"""The columns of an embedded batch that hold what the model says of its images."""

DECODED_SCHEMA = pa.schema(
    {
        "set": pa.int64(),
        "kept": pa.list_(pa.int64()),
        "crops": pa.large_binary(),
        "bad_paths": pa.list_(pa.string()),
        "bad_reasons": pa.list_(pa.string()),
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
class EmbeddedSet:
    """What a model says of an image set; arrays run over the M images that decoded.

    Attributes:
        rows: (M,) int64 ascending, their indices in the set's paths.
        embeddings: (M, D) float32.
        codes: (M, A) int64, predicted code of each attribute of the model's schema.
        doubt: (M,) float32, how unsure the model is of the attributes; NaN where it has none.
        bad: the images that did not decode, by path.
    """

    rows: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    codes: NDArray[np.int64]
    doubt: NDArray[np.float32]
    bad: tuple[BadImage, ...]

    def take(self, keep: NDArray[np.bool_]) -> "EmbeddedSet":
        """Some of the images that decoded."""
        return EmbeddedSet(
            self.rows[keep], self.embeddings[keep], self.codes[keep], self.doubt[keep], self.bad
        )


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


def embed_sets(model: LoadedModel, sets: Sequence[ImageSet], pool: Pool) -> list[EmbeddedSet]:
    """Embed every image of some sets once, in one pass.

    Args:
        model: what embeds.
        sets: the images.
        pool: the processes.

    Returns:
        One for each set.
    """
    size = (model.spec.height, model.spec.width)
    dataset = (
        ray.data.from_arrow(_plan_blocks(sets, target=cluster_cpus() * BLOCKS_PER_CPU))
        .map_batches(
            _decode_batches,
            fn_kwargs={"size": size},
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
    dimensions = (model.network.embedding_size, len(model.spec.schema.names))
    parts = [_Part(len(images.paths), *dimensions) for images in sets]
    total = sum(len(images.paths) for images in sets)
    with Counter("embedding", total=total, unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for batch in table.to_pylist():
                parts[batch["set"]].take(batch)
                counter.advance(len(batch["kept"]) + len(batch["bad_paths"]))
    return [part.finish() for part in parts]


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
        """Replace the crops by embeddings, attribute codes and doubt."""
        found = [
            self._embed(np.frombuffer(crops.as_buffer(), dtype=np.uint8))
            for crops in batches["crops"]
        ]
        done = batches.drop_columns(["crops"])
        for index, name in enumerate(PREDICTED):
            content = [arrays[index].tobytes() for arrays in found]
            done = done.append_column(name, pa.array(content, pa.large_binary()))
        return done

    def _embed(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """What `PREDICTED` names, of the crops of a batch."""
        crops = pixels.reshape(-1, *self._size, 3)
        padded = np.zeros((BATCH, *self._size, 3), dtype=np.uint8)
        padded[: len(crops)] = crops
        with torch.inference_mode():
            outputs = self._network(torch.from_numpy(padded).permute(0, 3, 1, 2).to(self._device))
            found = outputs.embedding.float(), *_codes_and_doubt(outputs.attributes)
        return tuple(part.cpu().numpy()[: len(crops)] for part in found)


def _codes_and_doubt(logits: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (BATCH, A) int64 of the attributes, and doubt (BATCH,) float32."""
    if not logits:
        return torch.empty(BATCH, 0, dtype=torch.int64), torch.full((BATCH,), torch.nan)
    codes = torch.stack([values.argmax(dim=1) for values in logits], dim=1)
    return codes, attribute_doubt([values.float().softmax(dim=1) for values in logits])


class _Part:
    """The embeddings of one set as they come in, put at their images' places."""

    def __init__(self, images: int, embedding_size: int, attributes: int) -> None:
        self._embeddings = np.empty((images, embedding_size), dtype=np.float32)
        self._codes = np.empty((images, attributes), dtype=np.int64)
        self._doubt = np.empty((images, 1), dtype=np.float32)
        self._decoded = np.zeros(images, dtype=bool)
        self._bad: list[BadImage] = []

    def take(self, batch: dict[str, Any]) -> None:
        """Put an embedded batch in its place."""
        arrays: tuple[NDArray[Any], ...] = self._embeddings, self._codes, self._doubt
        for array, column in zip(arrays, PREDICTED, strict=True):
            values = np.frombuffer(batch[column], dtype=array.dtype)
            array[batch["kept"]] = values.reshape(len(batch["kept"]), array.shape[1])
        self._decoded[batch["kept"]] = True
        self._bad.extend(map(BadImage, batch["bad_paths"], batch["bad_reasons"]))

    def finish(self) -> EmbeddedSet:
        """The set, now that every batch is here."""
        rows = np.flatnonzero(self._decoded)
        bad = tuple(sorted(self._bad, key=lambda image: image.path))
        doubt = self._doubt[rows, 0]
        return EmbeddedSet(rows, self._embeddings[rows], self._codes[rows], doubt, bad)


def _plan_blocks(sets: Sequence[ImageSet], target: int) -> list[pa.Table]:
    """Batches of names, a row each, in about `target` blocks.

    Columns: `set` int64, `root` string, `rows` and `paths`, lists of the images' indices in the set
    and their paths.
    """
    batches = [
        {
            "set": number,
            "root": images.location.uri,
            "rows": list(range(start, start + len(images.paths[start : start + BATCH]))),
            "paths": list(images.paths[start : start + BATCH]),
        }
        for number, images in enumerate(sets)
        for start in range(0, len(images.paths), BATCH)
    ]
    table = pa.Table.from_pylist(batches)
    rows = min(LARGEST_BLOCK, -(-len(batches) // target))
    return [table.slice(start, rows) for start in range(0, len(batches), rows)]


def _decode_batches(plan: pa.Table, size: tuple[int, int]) -> Iterator[pa.Table]:
    """Decode planned batches, one at a time."""
    for row in plan.to_pylist():
        decoded = decode_files(Location(row["root"]), row["paths"], size)
        batch = {
            "set": row["set"],
            "kept": [row["rows"][index] for index in decoded.kept],
            "crops": decoded.crops.tobytes(),
            "bad_paths": [image.path for image in decoded.bad],
            "bad_reasons": [image.reason for image in decoded.bad],
        }
        yield pa.Table.from_pylist([batch], schema=DECODED_SCHEMA)
