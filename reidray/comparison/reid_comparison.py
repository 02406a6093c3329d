"""Compare re-ID methods: classical baselines and trained models on the same images."""

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from reidray.comparison.compare_checks import METRICS_FILE, REPORT_FILE, TABLE_FILE
from reidray.comparison.comparison_data import read_comparison_data
from reidray.comparison.method_evaluation import NEIGHBOURS, evaluate_method, unmatched_queries
from reidray.comparison.methods import embed_baselines, embed_model, fit_baselines, load_models
from reidray.comparison.report_builder import Comparison, build_report
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
    """Compare methods and write `comparison.json`, `table.csv` and `report.html`.

    The same seed gives the same metrics for any number of workers.

    Args:
        config: the configuration of the comparison.
        session: a connection to Ray, which is opened after the checks of the inputs and closed
            after the embedding; None where Ray is connected.

    Returns:
        The output folder and the metrics of each method.

    Raises:
        UserError: the data, a model or the output is not valid, the cluster has too few resources,
            or too many images do not decode. The output folder does not change then.
    """
    with atomic_output(config.output) as staging:
        comparison = _compare_methods(config, session)
        data, first = comparison.data, comparison.metrics[0]
        unmatched = unmatched_queries(first, data)
        for line in describe_unmatched(unmatched):
            log.info("%s", line)
        summary = {
            "task": config.task,
            "data": data.location.uri,
            "dataset": data.dataset,
            "protocol": data.protocol,
            "queries_used": first.ranking.num_valid_queries,
            **unmatched_metrics(unmatched),
            "methods": [each.to_row() for each in comparison.metrics],
        }
        with Activity("writing the report"):
            _write_files(staging, comparison, summary)
    log.info("protocol %s", data.protocol)
    for line in _format_table(summary["methods"]):
        log.info("%s", line)
    return {"output": Location(config.output).uri, **summary}


def _compare_methods(
    config: CompareConfig, session: AbstractContextManager[None] | None
) -> Comparison:
    """Fit the baselines, embed the images with each method, and evaluate the methods."""
    models = load_models(config.model_folders)
    data = read_comparison_data(config)
    with session or nullcontext():
        pool = plan_pool(config.num_workers, config.use_gpu)
        baselines = fit_baselines(config, data)
        embedded = embed_baselines(config, data, baselines)
        data = embedded.data
        methods = [
            *embedded.methods,
            *(embed_model(name, model, config, data, pool) for name, model in models.items()),
        ]
    with Activity("evaluating the methods"):
        metrics = tuple(evaluate_method(method, data) for method in methods)
    return Comparison(config, data, metrics, baselines)


def _write_files(folder: Path, comparison: Comparison, summary: dict[str, Any]) -> None:
    data = comparison.data
    record = {
        **summary,
        "nearest_neighbours_of": data.neighbours_description,
        "seed": comparison.config.seed,
        "images": {name: len(labels.person_ids) for name, labels in data.sets.items()},
        "train": {"images": len(data.train.person_ids)},
        "cmc": {each.name: np.round(each.curve, 6).tolist() for each in comparison.metrics},
        "cumulative_variance": {
            name: shares.round(6).tolist()
            for name, shares in comparison.baselines.cumulative_variance.items()
        },
    }
    (folder / METRICS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / TABLE_FILE).write_bytes(write_csv_records(summary["methods"]))
    for name, text in data.id_name_files.items():
        (folder / name).write_text(text, encoding="utf-8")
    report = render_comparison_report(build_report(comparison))
    (folder / REPORT_FILE).write_text(report, encoding="utf-8")


def _format_table(rows: list[dict[str, Any]]) -> list[str]:
    """Format the metrics as lines of a table with columns of fixed width."""
    keys = ["top1", "top5", "top10", "mean_ap", *(f"nearest{k}_accuracy" for k in NEIGHBOURS)]
    titles = ["Top-1", "Top-5", "Top-10", "mAP", *(f"k={k}" for k in NEIGHBOURS)]
    width = max(len("method"), *(len(row["method"]) for row in rows))
    head = "  ".join([f"{title:>6}" for title in titles])
    lines = [f"{'method':<{width}}  {'distance':<9}  length  {head}  training  inference"]
    for row in rows:
        shares = "  ".join(f"{row[key]:>6.3f}" for key in keys)
        seconds = row["training_seconds"]
        training = "n/a" if seconds is None else f"{seconds:.1f} s"
        lines.append(
            f"{row['method']:<{width}}  {row['metric']:<9}  {row['embedding_length']:>6}  {shares}"
            f"  {training:>8}  {row['inference_seconds']:>7.1f} s"
        )
    return lines
