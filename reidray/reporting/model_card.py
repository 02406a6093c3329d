"""Render the model card of a re-ID model."""

from collections.abc import Mapping
from typing import Any

from reidray.reporting.rendering import render
from reidray.reporting.run_summary import (
    DataSummary,
    describe_epoch,
    group_rows,
    headlines,
    small_group_note,
    weak_attributes,
)


def render_model_card(
    config: dict[str, Any], metrics: dict[str, Any], best_epoch: int, data: DataSummary
) -> str:
    """Render the model card as Markdown.

    The card states the intended use, the metrics, the metrics of subgroups and the training. The
    sections follow Mitchell et al., "Model Cards for Model Reporting", 2019.

    Args:
        config: the configuration of the run, with the keys of `TrainReidConfig`.
        metrics: the validation metrics of the best epoch.
        best_epoch: the epoch of the weights.
        data: the images of the run.
    """
    return render(
        "model_card.md",
        config=config,
        metrics=metrics,
        headlines=headlines(metrics),
        groups=group_rows(metrics),
        small_group_note=small_group_note(group_rows(metrics)),
        weak_attributes=weak_attributes(metrics),
        losses=_loss_weights(config["loss"]),
        best_epoch=describe_epoch(best_epoch, config["epochs"], metrics),
        data=data,
    )


def _loss_weights(losses: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights above 0 of the losses of a training by their names."""
    weights = {name: losses[name] for name in ("identity", "triplet", "attributes")}
    for name, options in losses.items():
        if isinstance(options, Mapping):
            weights[name] = options["weight"]
    return {name: weight for name, weight in weights.items() if weight > 0}
