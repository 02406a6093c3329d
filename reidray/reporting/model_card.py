"""The model card: the page a person reads beside the weights."""

from typing import Any

from reidray.reporting.rendering import render
from reidray.reporting.run_summary import (
    DataSummary,
    describe_epoch,
    headlines,
    small_group_note,
    weak_attributes,
)


def render_model_card(
    config: dict[str, Any], figures: dict[str, Any], best_epoch: int, data: DataSummary
) -> str:
    """Say what a model is for, how good it is, for whom it is worse and how it was made.

    The sections follow Mitchell et al., "Model Cards for Model Reporting", 2019.

    Args:
        config: the whole configuration of the run, as `TrainReidConfig` names it.
        figures: of the best epoch's validation.
        best_epoch: epoch whose weights these are.
        data: what the model was trained on.

    Returns:
        A page of Markdown.
    """
    return render(
        "model_card.md",
        config=config,
        figures=figures,
        headlines=headlines(figures),
        groups=figures.get("groups", []),
        small_group_note=small_group_note(figures.get("groups", [])),
        weak_attributes=weak_attributes(figures),
        losses={
            name: config["loss"][name]
            for name in ("identity", "triplet", "attributes")
            if config["loss"][name] > 0
        },
        best_epoch=describe_epoch(best_epoch, config["epochs"], figures),
        data=data,
    )
