"""Delete embeddings from a store."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.scoring import ForgetConfig


def forget_embeddings(arguments: "JobArguments[ForgetConfig]") -> dict[str, Any]:
    """Delete what the configuration names."""
    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.scoring.scoring_paths import check_forget_inputs

    config = arguments.config
    check_forget_inputs(config)  # before PyTorch loads

    from reidray.scoring.store.deletion import forget

    with Activity(f"forgetting in {config.store}", delay=SHOW_AFTER_SECONDS):
        return forget(config)


JOB = Job(
    name="forget",
    description=(
        "Delete the embeddings of an image, of a person or of a time from a store, for good."
    ),
    example="--store embeddings --image 000123.jpg",
    config="reidray.config.scoring:ForgetConfig",
    run=forget_embeddings,
)
