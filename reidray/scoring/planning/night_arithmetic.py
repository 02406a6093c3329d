"""Compute what a nightly run takes from measured costs: time, memory, and what decides them."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from reidray.data.listing.image_listing import SHARD_ROWS
from reidray.inference.image_batches import BATCH_SIZE, DIGEST_KEY_BYTES
from reidray.inference.planning.embedding_timing import EmbeddingCosts
from reidray.inference.planning.measured_costs import FREE, Cost, rounded
from reidray.scoring.planning.search_timing import SearchCosts
from reidray.scoring.stages.gallery_search import MEMORY_MB
from reidray.scoring.stages.query_blocks import MAX_CANDIDATE_BYTES, MAX_QUERIES, queries_in_block

HOUR = 3600.0

READING, DECODING, MODEL, RANKING = "reading files", "decoding", "model", "ranking"

BATCHES_IN_FLIGHT = 8
"""Decoded batches that wait for a GPU, for each CPU that decodes: two tasks of four."""


@dataclass(frozen=True, kw_only=True)
class NightSize:
    """Hold the sizes of a nightly run.

    Attributes:
        queries: number of queries.
        gallery: number of images of the gallery.
        missing: number of images of both to embed.
        slots: crops of the forward passes for them, the empty places of batches included.
        stored: number of embeddings that the store holds of this model.
        embedding_size: numbers in an embedding.
        crop_bytes: bytes of a decoded crop.
        candidates: gallery images of each query whose features are read, for a re-ranking or an
            expansion; 0 for none.
        reranks: whether the queries are compared with each other, for a re-ranking.
        expands: whether the gallery is searched once more before, for an expansion.
        searches_itself: whether the gallery is searched for each of its own images, as votes and
            distractor scores need.
    """

    queries: int
    gallery: int
    missing: int
    slots: int
    stored: int
    embedding_size: int
    crop_bytes: int
    candidates: int = 0
    reranks: bool = False
    expands: bool = False
    searches_itself: bool = False

    @property
    def block(self) -> int:
        """Return the number of queries that are searched together."""
        return queries_in_block(self.candidates, self.embedding_size)

    @property
    def searched(self) -> int:
        """Return the images that each query is compared with, other queries included."""
        return self.gallery * (1 + self.expands) + self.queries * self.reranks

    @property
    def read(self) -> int:
        """Return the embeddings that are read for each block of queries, those twice included.

        A re-ranking and an expansion read the gallery once more each, for the candidates.
        """
        return self.searched + self.gallery * (self.reranks + self.expands)


@dataclass(frozen=True, kw_only=True)
class NightMachines:
    """Hold the machines of a nightly run.

    Attributes:
        nodes: number of nodes.
        workers: number of processes that embed, each with a GPU or in one thread on a CPU.
        on_gpu: whether they have GPUs.
        decoders: number of CPUs that decode for the GPUs; without GPUs the workers decode.
        overlaps_reading: whether files are read while others are decoded, as from an object store.
        search_tasks: number of searches that run at a time.
        rerank_tasks: number of re-rankings that run at a time.
        gallery_tasks: number of searches that run at a time for images of the gallery itself.
    """

    nodes: int
    workers: int
    on_gpu: bool
    decoders: int
    overlaps_reading: bool
    search_tasks: int
    rerank_tasks: int = 1
    gallery_tasks: int = 1


@dataclass(frozen=True)
class NightPlan:
    """Hold what a nightly run takes.

    Attributes:
        embedding: seconds of the embedding.
        ranking: seconds of the ranking.
        worker: seconds of one worker for an image, if nothing else holds it up.
        stages: seconds that each stage would take if it were the only one.
        binds: the stage that decides the time.
        suggested_workers: number of workers.
        reason: why this number.
        cpus_per_gpu: CPUs that decode as fast as a GPU embeds; None without GPUs.
        memory_bytes: memory of a node.
    """

    embedding: Cost
    ranking: Cost
    worker: Cost
    stages: dict[str, Cost]
    binds: str
    suggested_workers: int
    reason: str
    cpus_per_gpu: int | None
    memory_bytes: float

    @property
    def total(self) -> Cost:
        """Return the seconds of the embedding and the ranking."""
        return self.embedding + self.ranking


def plan_night(
    size: NightSize, machines: NightMachines, embedding: EmbeddingCosts | None, search: SearchCosts
) -> NightPlan:
    """Return what a nightly run takes.

    With r, d and m seconds to read, decode and embed an image, N missing images in batches with
    room for M, W workers and C CPUs that decode for GPUs, p = r + d for files on a disk and
    p = max(r, d) in an object store:

    | what | seconds |
    |---|---|
    | embedding on CPUs | (N p + M m) / W |
    | embedding on GPUs | max(N p / C, M m / W) |
    | ranking of Q queries and G images, T tasks | (S Q c + E ceil(Q / B) e) / T + Q k / R + s |
    | s, if the gallery is searched for itself in U tasks | G (G c + ceil(G / 16,384) e) / U |

    S is the number of images that each query is compared with: G, twice G for an expansion, and Q
    more for a re-ranking. E is the number of embeddings that are read for each block of queries: S,
    and G more for a re-ranking and for an expansion. c is the cost of a comparison, e that of
    reading an embedding, B the number of queries in a block, and k the cost to re-rank a query in
    one of R tasks.

    Args:
        size: the sizes of the run.
        machines: the machines.
        embedding: what the stages of the embedding cost; None where nothing is missing.
        search: what the search costs.
    """
    blocks = ceil(size.queries / size.block)
    searching = search.compare * size.queries * size.searched + search.read * blocks * size.read
    ranking = searching * (1 / machines.search_tasks)
    ranking += search.rerank * (size.queries / machines.rerank_tasks)
    if size.searches_itself:
        blocks = ceil(size.gallery / MAX_QUERIES)
        itself = search.compare * size.gallery + search.read * blocks
        ranking += itself * (size.gallery / machines.gallery_tasks)
    worker, elapsed, stages, cpus_per_gpu = FREE, FREE, {}, None
    binds = RANKING
    if embedding is not None:
        read, decode = embedding.read, embedding.decode
        predict = embedding.predict * (size.slots / size.missing)
        prepare = read.at_least(decode) if machines.overlaps_reading else read + decode
        preparing = machines.decoders if machines.on_gpu else machines.workers
        stages = {
            READING: read * (size.missing / preparing),
            DECODING: decode * (size.missing / preparing),
            MODEL: predict * (size.missing / machines.workers),
        }
        limits = dict(stages)
        prepared = prepare * (size.missing / preparing)
        if machines.on_gpu:
            worker, elapsed = predict, prepared.at_least(stages[MODEL])
            cpus_per_gpu = ceil(prepare.seconds / predict.seconds)
            slower_is_gpu = stages[MODEL].seconds >= prepared.seconds
            limits = {name: stages[name] for name in limits if (name == MODEL) == slower_is_gpu}
        else:
            worker, elapsed = prepare + predict, prepared + stages[MODEL]
        if elapsed.seconds > ranking.seconds:
            binds = max(limits, key=lambda name: limits[name].seconds)
    suggested, reason = _suggest_workers(
        size, machines, worker.seconds * size.missing, ranking.seconds, cpus_per_gpu
    )
    return NightPlan(
        elapsed,
        ranking,
        worker,
        {**stages, RANKING: ranking},
        binds,
        suggested,
        reason,
        cpus_per_gpu,
        _memory_of_node(size, machines, embedding),
    )


def _suggest_workers(
    size: NightSize,
    machines: NightMachines,
    one_worker: float,
    ranking: float,
    cpus_per_gpu: int | None,
) -> tuple[int, str]:
    """Return the fewest workers for an hour, as far as each of them makes the run faster.

    Args:
        size: the sizes of the run.
        machines: the machines.
        one_worker: seconds in which one worker embeds all images.
        ranking: seconds of the ranking.
        cpus_per_gpu: CPUs that decode as fast as a GPU embeds; None without GPUs.
    """
    most, reason = max(1, ceil(size.missing / BATCH_SIZE)), "each has a batch of images"
    if cpus_per_gpu is not None and machines.decoders // cpus_per_gpu < most:
        most = max(1, machines.decoders // cpus_per_gpu)
        reason = f"{machines.decoders} CPUs decode for no more of them"
    left = HOUR - ranking
    if left > 0 and one_worker <= left * most:
        return max(1, ceil(one_worker / left)), "the fewest that end within an hour"
    if left <= 0:
        reason = f"the ranking alone takes more than an hour; {reason}"
    return most, reason


def _memory_of_node(
    size: NightSize, machines: NightMachines, embedding: EmbeddingCosts | None
) -> float:
    """Return the largest memory of a node, in bytes.

    The embedding takes the measured peak of each worker and the decoded batches that wait for GPUs;
    the search a shard of the gallery, the queries of a block and its working memory in each task,
    and the candidates of a block.
    Both take 16 bytes for each stored embedding.
    """
    row = 4 * size.embedding_size
    tasks = ceil(machines.search_tasks / machines.nodes)
    queries = min(size.queries, size.block)
    if size.searches_itself:
        tasks = max(tasks, ceil(machines.gallery_tasks / machines.nodes))
        queries = max(queries, min(size.gallery, MAX_QUERIES))
    block = queries * row
    shard = min(size.gallery, SHARD_ROWS) * row
    searching = tasks * (shard + block + MEMORY_MB * 2**20)
    if size.candidates:
        searching += min(size.gallery * row, MAX_CANDIDATE_BYTES)
    embedding_bytes = 0.0
    if embedding is not None:
        processes = ceil(machines.workers / machines.nodes)
        if machines.on_gpu:
            decoders = ceil(machines.decoders / machines.nodes)
            processes += decoders
            embedding_bytes += decoders * BATCHES_IN_FLIGHT * BATCH_SIZE * size.crop_bytes
        embedding_bytes += processes * embedding.peak_bytes
    return size.stored * DIGEST_KEY_BYTES + max(searching, embedding_bytes)


def plan_to_json(plan: NightPlan, missing: int, nodes: int) -> dict[str, Any]:
    """Return a plan as the JSON line of the job, in two digits.

    Args:
        plan: the plan.
        missing: number of images to embed.
        nodes: number of nodes.
    """
    seconds = plan.total.seconds
    found: dict[str, Any] = {}
    if missing:
        found["images_per_second"] = (plan.embedding * (1 / missing)).to_rate()
        found["images_per_second_per_worker"] = plan.worker.to_rate()
    shares = {name: cost.seconds / seconds for name, cost in plan.stages.items()}
    return found | {
        "embedding": plan.embedding.to_minutes(),
        "ranking": plan.ranking.to_minutes(),
        "total": plan.total.to_minutes(),
        "node_hours": rounded(seconds * nodes / HOUR),
        "binds": plan.binds,
        "stages": {
            name: {**cost.to_minutes(), "share": rounded(shares[name])}
            for name, cost in plan.stages.items()
        },
        "memory_gb_per_node": rounded(plan.memory_bytes / 1e9),
        "cpus_per_gpu": plan.cpus_per_gpu,
        "suggested_workers": plan.suggested_workers,
        "reason": plan.reason,
    }
