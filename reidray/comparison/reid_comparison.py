"""Compare re-ID methods: classical baselines and trained models on the same images."""

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from reidray.comparison.compare_checks import (
    COMPARISON_FILES,
    METRICS_FILE,
    REPORT_FILE,
    TABLE_FILE,
)
from reidray.comparison.comparison_data import read_comparison_data
from reidray.comparison.comparison_result import Comparison, format_table
from reidray.comparison.method_evaluation import evaluate_method, unmatched_queries
from reidray.comparison.methods import embed_baselines, embed_model, fit_baselines, load_models
from reidray.comparison.pca_variants import evaluate_pca_variants
from reidray.comparison.report_builder import build_report
from reidray.config.comparison import CompareConfig
from reidray.evaluation.evaluation_result import describe_unmatched
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
    with atomic_output(config.output, COMPARISON_FILES, METRICS_FILE) as staging:
        comparison = _compare_methods(config, session)
        data = comparison.data
        for line in describe_unmatched(unmatched_queries(comparison.metrics[0], data)):
            log.info("%s", line)
        summary = comparison.summary()
        with Activity("writing the report"):
            _write_files(staging, comparison, summary)
    log.info("protocol %s", data.protocol)
    for line in format_table(summary["methods"]):
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
        variants = evaluate_pca_variants(config, data, baselines) if config.pca_variants else ()
        methods = [
            *embedded.methods,
            *(embed_model(name, model, config, data, pool) for name, model in models.items()),
        ]
    with Activity("evaluating the methods"):
        metrics = tuple(evaluate_method(method, data) for method in methods)
    return Comparison(config, data, metrics, baselines, variants)


def _write_files(folder: Path, comparison: Comparison, summary: dict[str, Any]) -> None:
    record = {**summary, **comparison.details()}
    (folder / METRICS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / TABLE_FILE).write_bytes(write_csv_records(summary["methods"]))
    for name, text in comparison.data.id_name_files.items():
        (folder / name).write_text(text, encoding="utf-8")
    report = render_comparison_report(build_report(comparison))
    (folder / REPORT_FILE).write_text(report, encoding="utf-8")
