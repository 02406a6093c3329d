"""A comparison of people, from images to a folder of figures and a page."""

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from reidray.comparison.compare_checks import FIGURES_FILE, REPORT_FILE, TABLE_FILE
from reidray.comparison.comparison_data import read_comparison_data
from reidray.comparison.comparison_page import Compared, build_page
from reidray.comparison.method_evaluation import NEIGHBOURS, judge, unmatched_queries
from reidray.comparison.methods import embed_baselines, embed_model, fit_baselines, load_models
from reidray.config.comparison import CompareConfig
from reidray.evaluation.evaluation_result import describe_unmatched, unmatched_metrics
from reidray.inference.ray_engine import plan_pool
from reidray.progress import Activity
from reidray.reporting.comparison_report import render_comparison_report
from reidray.storage.csv_files import write_csv_records
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output

log = logging.getLogger("reidray")


def compare_reid(
    config: CompareConfig, session: AbstractContextManager[None] | None = None
) -> dict[str, Any]:
    """Compare methods and leave a folder with `comparison.json`, `table.csv` and `report.html`.

    The same seed gives the same figures, but for the seconds, whatever the number of workers.

    Args:
        config: what to compare.
        session: a connection to Ray, opened once everything has been checked and closed after the
            embedding; None where Ray is connected already.

    Returns:
        The figures of each method, with the folder.

    Raises:
        UserError: data, a model or the output is not what it should be, the cluster cannot place
            the workers, or too many images do not decode. The output folder is then untouched.
    """
    with atomic_output(config.output) as staging:
        compared = _embed_and_judge(config, session)
        figures = [judged.figures() for judged in compared.judged]
        unmatched = unmatched_queries(compared.judged[0], compared.images)
        for line in describe_unmatched(unmatched):
            log.info("%s", line)
        summary = {
            "task": config.task,
            "data": compared.images.location.uri,
            "dataset": compared.images.dataset,
            "protocol": compared.images.protocol,
            "queries_used": compared.judged[0].ranking.num_valid_queries,
            **unmatched_metrics(unmatched),
            "methods": figures,
        }
        with Activity("writing the page"):
            _write_files(staging, compared, summary)
    for line in (f"protocol {summary['protocol']}", *_readable(figures).splitlines()):
        log.info("%s", line)
    return {"output": Location(config.output).uri, **summary}


def _embed_and_judge(
    config: CompareConfig, session: AbstractContextManager[None] | None
) -> Compared:
    models = load_models(config.model_folders)
    images = read_comparison_data(config)
    with session or nullcontext():
        pool = plan_pool(config.num_workers, config.use_gpu)
        fitted = fit_baselines(config, images)
        methods, images = embed_baselines(config, images, fitted)
        for name, model in models.items():
            methods.append(embed_model(name, model, config, images, pool))
    with Activity("judging the methods"):
        judged = tuple(judge(method, images) for method in methods)
    return Compared(config, images, judged, fitted)


def _write_files(folder: Path, compared: Compared, summary: dict[str, Any]) -> None:
    images, config = compared.images, compared.config
    record = {
        **summary,
        "nearest_neighbours_of": images.naming,
        "seed": config.seed,
        "images": dict(
            zip(images.set_names, (len(s.person_ids) for s in images.sets), strict=True)
        ),
        "train": {"images": len(images.train.person_ids)},
        "cmc": {judged.method.name: judged.curve for judged in compared.judged},
        "cumulative_variance": compared.fitted.cumulative_variance.round(6).tolist(),
    }
    (folder / FIGURES_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / TABLE_FILE).write_bytes(write_csv_records(summary["methods"]))
    for name, text in images.id_name_files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / REPORT_FILE).write_text(
        render_comparison_report(build_page(compared)), encoding="utf-8"
    )


def _readable(figures: list[dict[str, Any]]) -> str:
    """The figures as a table of fixed width."""
    keys = ["top1", "top5", "top10", "mean_ap", *(f"nearest{k}_accuracy" for k in NEIGHBOURS)]
    titles = ["Top-1", "Top-5", "Top-10", "mAP", *(f"k={k}" for k in NEIGHBOURS)]
    width = max(len("method"), *(len(row["method"]) for row in figures))
    head = "  ".join([f"{title:>6}" for title in titles])
    lines = [f"{'method':<{width}}  {'distance':<9}  length  {head}  training  inference"]
    for row in figures:
        shares = "  ".join(f"{row[key]:>6.3f}" for key in keys)
        training = row["training_seconds"]
        learnt = "n/a" if training is None else f"{training:.1f} s"
        lines.append(
            f"{row['method']:<{width}}  {row['metric']:<9}  {row['embedding_length']:>6}  {shares}"
            f"  {learnt:>8}  {row['inference_seconds']:>7.1f} s"
        )
    return "\n".join(lines)
