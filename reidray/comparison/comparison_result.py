"""Hold the results of a comparison, and describe them as JSON and as lines of a table."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reidray.comparison.comparison_data import ComparisonData, image_names
from reidray.comparison.method_evaluation import NEIGHBOURS, MethodMetrics, unmatched_queries
from reidray.comparison.methods import FittedBaselines
from reidray.comparison.pca_variants import PCAVariant
from reidray.comparison.person_errors import find_suspects, most_confused
from reidray.config.comparison import CompareConfig
from reidray.evaluation.evaluation_result import unmatched_metrics


@dataclass(frozen=True, eq=False)
class Comparison:
    """Hold the results of a comparison.

    Attributes:
        config: the configuration of the comparison.
        data: the compared images.
        metrics: the metrics of each method, the baselines first.
        baselines: the fitted baselines.
        pca_variants: the metrics of variants of PCA; empty where they were not requested.
    """

    config: CompareConfig
    data: ComparisonData
    metrics: tuple[MethodMetrics, ...]
    baselines: FittedBaselines
    pca_variants: tuple[PCAVariant, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the data and the metrics of each method, by the names of comparison.json."""
        first = self.metrics[0]
        return {
            "task": self.config.task,
            "data": self.data.location.uri,
            "dataset": self.data.dataset,
            "protocol": self.data.protocol,
            "queries_used": first.ranking.num_valid_queries,
            **unmatched_metrics(unmatched_queries(first, self.data)),
            "methods": [each.to_row() for each in self.metrics],
        }

    def details(self) -> dict[str, Any]:
        """Return what comparison.json holds beside the summary."""
        return {
            "nearest_neighbours_of": self.data.neighbours_description,
            "seed": self.config.seed,
            "images": {name: len(labels) for name, labels in self.data.sets.items()},
            "train": {
                "images": len(self.data.train),
                "people": len(np.unique(self.data.train.person_ids)),
            },
            "pca_variants": [each.to_row() for each in self.pca_variants],
            "most_confused": self._most_confused(),
            "suspect_labels": self._suspect_labels(),
            "cmc": {each.name: np.round(each.curve, 6).tolist() for each in self.metrics},
            "cumulative_variance": {
                name: shares.round(6).tolist()
                for name, shares in self.baselines.cumulative_variance.items()
            },
        }

    def _most_confused(self) -> list[dict[str, Any]]:
        return [
            {
                "method": each.name,
                "k": k,
                "person": pair.person,
                "predicted": pair.other,
                "images": pair.images,
                "of": pair.total,
            }
            for each in self.metrics
            for k in NEIGHBOURS
            for pair in most_confused(each, self.data, k)
        ]

    def _suspect_labels(self) -> list[dict[str, Any]]:
        names = image_names(self.data.sets[self.data.neighbour_sets.query])
        return [
            {
                "image": names[suspect.query],
                "person": suspect.person,
                "looks_like": suspect.other,
                "methods": suspect.methods,
            }
            for suspect in find_suspects(self.metrics, self.data)
        ]


def format_table(rows: list[dict[str, Any]]) -> list[str]:
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
