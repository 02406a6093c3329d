"""Plan a nightly run: time a sample of its images, and say what the run takes."""

import logging
import tempfile
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path
from typing import Any

from reidray.config.scoring import ScoreConfig
from reidray.errors import UserError
from reidray.inference.distributed.scoring_engine import ScoringEngine, choose_scoring_engine
from reidray.inference.distributed.task_runner import LocalTasks, RayTasks, TaskRunner
from reidray.inference.image_batches import BATCH_SIZE
from reidray.inference.inference_settings import InferenceSettings, choose_settings
from reidray.inference.local_engine import count_decoders
from reidray.inference.planning.embedding_timing import (
    EmbeddingCosts,
    TimedNetwork,
    measure_embedding,
)
from reidray.inference.planning.measured_costs import (
    format_number,
    format_range,
    rounded,
)
from reidray.inference.runs.embedding_engine import RayConnection, choose_engine, embeds_on_gpu
from reidray.inference.runs.run_timing import StageTimer
from reidray.models import LoadedModel, load_person_model
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.scoring.planning.night_arithmetic import (
    DECODING,
    MODEL,
    RANKING,
    READING,
    NightMachines,
    NightPlan,
    NightSize,
    plan_night,
    plan_to_json,
)
from reidray.scoring.planning.night_images import FoundImages, find_images_to_embed
from reidray.scoring.planning.search_timing import SearchCosts, TimedSearch, measure_search
from reidray.scoring.scoring_paths import check_score_outputs
from reidray.scoring.stages.reranked_queries import QUERIES_IN_TASK
from reidray.storage.location import Location
from reidray.terminal import align_columns, count_noun

log = logging.getLogger("reidray")

BATCHES_PER_WORKER = 32
"""Batches that a worker times at most."""

MAX_TIMED_WORKERS = 8
"""Workers that are timed at the same time, at most."""

NOT_COUNTED = (
    "start of the processes",
    "listing and lookup",
    "writing of the files",
    "the network between the nodes",
)
"""Name what the minutes of a plan leave out."""


def plan_nightly(
    config: ScoreConfig,
    session: AbstractContextManager[None] | None = None,
    *,
    starts_ray: bool = False,
) -> dict[str, Any]:
    """Time some images of a nightly run, and log and return what the whole run takes.

    The processes that would embed the images time them. The function writes nothing: working files
    lie in a temporary folder of this machine.

    Args:
        config: the nightly run.
        session: connection to Ray, which is opened where the run would open it (see
            `RayConnection`).
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Raises:
        UserError: the model, the images or the output are not usable, the cluster cannot place the
            workers, or no image of the sample decodes.
    """
    check_score_outputs(config)
    timer = StageTimer()
    connection = RayConnection(session, timer, starts_ray=starts_ray)
    with connection, tempfile.TemporaryDirectory(prefix="reidray-plan-") as folder:
        with Activity(f"reading the model {config.model}", delay=SHOW_AFTER_SECONDS):
            model = load_person_model(config.model)
        engine = choose_scoring_engine(config.engine, connection, _existing_folders(config))
        on_gpu = embeds_on_gpu(config, connection)
        settings = choose_settings(config.precision, config.flip, on_gpu=on_gpu)
        embedding_id = settings.embedding_id(model.model_id)
        found = find_images_to_embed(config, model, embedding_id, Path(folder))
        timer.end_stage("look up")
        costs, machines = None, _machines_without_embedding(found, engine)
        if found.num_missing:
            costs, machines = _measure(
                config, model, settings, found, engine, connection, on_gpu=on_gpu
            )
        if not engine.uses_ray_data:
            connection.close()
        search = TimedSearch(
            found.count("query"),
            max(config.top_k, config.rerank),
            model.network.embedding_size,
            config.metric or model.card.metric,
            engine.ranking_device(config.use_gpu),
            rerank=min(config.rerank, found.count("gallery")),
        )
        with Activity("timing the ranking", delay=SHOW_AFTER_SECONDS):
            timed = min(machines.search_tasks, MAX_TIMED_WORKERS)
            searching = measure_search(engine.runner, search, found.images.contents, timed)
    size = _size_of(config, model, found)
    plan = plan_night(size, machines, costs, searching)
    described = {
        "plan": "score-nightly",
        "engine": engine.name,
        "queries": size.queries,
        "gallery": size.gallery,
        "missing": size.missing,
        "workers": machines.workers,
        "nodes": machines.nodes,
        "device": "cuda" if machines.on_gpu else "cpu",
        **plan_to_json(plan, size.missing, machines.nodes),
        **_describe_measurements(costs, searching, search),
        "listing_seconds": rounded(found.seconds),
        "start_seconds": rounded(
            timer.seconds.get("ray start", 0.0) + (costs.start_seconds if costs else 0.0)
        ),
        "not_counted": list(NOT_COUNTED),
    }
    for line in _format_plan(size, machines, plan, described):
        log.info("%s", line)
    return described


def _existing_folders(config: ScoreConfig) -> list[Path]:
    """Return the existing folders in which the run would make those that it writes."""
    written = [Location(uri) for uri in (config.output, config.store) if uri is not None]
    paths = [Path(each.uri) for each in written if not each.is_remote]
    return [next(each for each in (path, *path.parents) if each.is_dir()) for path in paths]


def _size_of(config: ScoreConfig, model: LoadedModel, found: FoundImages) -> NightSize:
    """Return the sizes of a run."""
    return NightSize(
        queries=found.count("query"),
        gallery=found.count("gallery"),
        missing=found.num_missing,
        slots=found.num_slots,
        stored=found.images.contents.num_embedded,
        embedding_size=model.network.embedding_size,
        crop_bytes=3 * prod(model.architecture.size),
        candidates=max(config.rerank, config.expand),
        reranks=config.rerank > 0,
        expands=config.expand > 0,
        searches_itself=config.scores_distractors or config.attribute_neighbours > 1,
    )


def _machines_without_embedding(found: FoundImages, engine: ScoringEngine) -> NightMachines:
    """Return the machines of a run that only ranks."""
    return NightMachines(
        nodes=_count_nodes() if engine.uses_ray_data else 1,
        workers=1,
        on_gpu=False,
        decoders=1,
        overlaps_reading=False,
        search_tasks=_count_searches(found, engine, "cpu"),
        gallery_tasks=_count_calls(engine, "cpu"),
        rerank_tasks=_count_rerankings(found, engine),
    )


def _measure(
    config: ScoreConfig,
    model: LoadedModel,
    settings: InferenceSettings,
    found: FoundImages,
    engine: ScoringEngine,
    connection: RayConnection,
    *,
    on_gpu: bool,
) -> tuple[EmbeddingCosts, NightMachines]:
    """Time the embedding of a sample where the run would embed, and return the machines too."""
    embedding = choose_engine(
        found.num_missing,
        config,
        settings,
        connection,
        on_gpu=on_gpu,
        by_ray_data=engine.uses_ray_data,
    )
    runner: TaskRunner = LocalTasks()
    timed, nodes = 1, 1
    decoders = max(1, count_decoders(found.num_slots // BATCH_SIZE)) if on_gpu else 1
    if embedding.num_workers:
        from reidray.cluster_resources import cluster_cpus  # imports Ray

        decoders, nodes = max(1, cluster_cpus()), _count_nodes()
        timed = min(decoders if on_gpu else embedding.num_workers, MAX_TIMED_WORKERS)
        runner = RayTasks(timed)
    batches = found.draw_batches(timed * BATCHES_PER_WORKER * BATCH_SIZE)
    network = TimedNetwork(
        model.architecture, settings, "cuda" if on_gpu else "cpu", model.network.state_dict()
    )
    with Activity(f"timing some of {found.num_missing:,} images to embed"):
        costs = measure_embedding(runner, network, batches, timed)
    if costs.num_bad == costs.num_images:
        first = batches[0]
        raise UserError(
            f"none of {costs.num_images} images that were timed decodes, as "
            f"{first.location.join(first.paths[0]).uri}: mend or remove them"
        )
    device = engine.ranking_device(config.use_gpu)
    machines = NightMachines(
        nodes=nodes,
        workers=max(1, embedding.num_workers),
        on_gpu=on_gpu,
        decoders=decoders,
        overlaps_reading=batches[0].location.is_remote,
        search_tasks=_count_searches(found, engine, device),
        gallery_tasks=_count_calls(engine, device),
        rerank_tasks=_count_rerankings(found, engine),
    )
    return costs, machines


def _count_nodes() -> int:
    """Return the number of nodes with CPUs or GPUs that the cluster may grow to."""
    from reidray.cluster_resources import cluster_capacity  # imports Ray

    nodes = cluster_capacity().most
    return max(1, sum(node.get("CPU", 0) >= 1 or node.get("GPU", 0) >= 1 for node in nodes))


def _count_searches(found: FoundImages, engine: ScoringEngine, device: str) -> int:
    """Return the searches that run at a time, each over a shard of the gallery or more."""
    return min(_count_calls(engine, device), len(found.images.listings["gallery"].shards))


def _count_calls(engine: ScoringEngine, device: str) -> int:
    """Return the searches that run at a time, if there is enough to search."""
    if not engine.uses_ray_data:
        return 1
    from reidray.cluster_resources import cluster_gpus  # imports Ray

    return max(1, cluster_gpus() if device == "cuda" else engine.runner.parallelism)


def _count_rerankings(found: FoundImages, engine: ScoringEngine) -> int:
    """Return the re-rankings that run at a time, each of some queries."""
    return min(engine.runner.parallelism, -(-found.count("query") // QUERIES_IN_TASK))


def _describe_measurements(
    costs: EmbeddingCosts | None, searching: SearchCosts, search: TimedSearch
) -> dict[str, Any]:
    """Return what was measured: units per second of one process, and the sample."""
    rates = {RANKING: searching.compare.to_rate()}
    described: dict[str, Any] = {
        "one_process": rates,
        "gigaflops": rounded(2e-9 * search.embedding_size / searching.compare.seconds),
        "embeddings_read": {
            **searching.read.to_rate(),
            "from": "store" if searching.reads_store else "memory",
        },
    }
    if search.rerank:
        described["queries_reranked"] = searching.rerank.to_rate()
    if costs is not None:
        described |= {
            "sampled": costs.num_images,
            "bad_in_sample": costs.num_bad,
            "kilobytes_per_image": rounded(costs.bytes_per_image / 1e3),
            "megabytes_per_second": rounded(costs.bytes_per_image / costs.read.seconds / 1e6),
        }
        stages = {READING: costs.read, DECODING: costs.decode, MODEL: costs.predict}
        rates |= {name: cost.to_rate() for name, cost in stages.items()}
        described["one_process"] = rates
    return described


def _format_plan(
    size: NightSize, machines: NightMachines, plan: NightPlan, described: dict[str, Any]
) -> list[str]:
    """Return the lines of a plan."""
    device = "GPU" if machines.on_gpu else "CPU"
    lines = [
        f"{size.queries:,} queries and {size.gallery:,} images of the gallery, {size.missing:,} "
        f"to embed; {count_noun(machines.workers, 'worker')} x 1 {device}, "
        f"{count_noun(machines.nodes, 'node')}, engine {described['engine']}",
    ]
    rows: list[tuple[str, ...]] = [
        ("stage", "one process, per s", "range", "minutes", "range", "share")
    ]
    for name, values in described["stages"].items():
        rate, unit = described["one_process"][name], "pairs" if name == RANKING else "images"
        rows.append(
            (
                name,
                f"{format_number(rate['per_second'])} {unit}",
                format_range(rate),
                format_number(values["minutes"]),
                format_range(values),
                f"{100 * values['share']:.0f} %",
            )
        )
    total = described["total"]
    rows.append(("in all", "", "", format_number(total["minutes"]), format_range(total), ""))
    lines += align_columns(rows)
    workers = f"{count_noun(plan.suggested_workers, 'worker')}: {plan.reason}"
    if plan.cpus_per_gpu is not None:
        workers += f"; decoding takes {count_noun(plan.cpus_per_gpu, 'CPU')} for each GPU"
    return [
        *lines,
        f"what binds: {plan.binds}; {format_number(described['node_hours'])} node-hours; "
        f"{format_number(described['memory_gb_per_node'])} GB of memory on a node",
        f"suggested: {workers}",
        f"not counted: {', '.join(NOT_COUNTED)} (start {described['start_seconds']:g} s, listing "
        f"and lookup {described['listing_seconds']:g} s here)",
    ]
