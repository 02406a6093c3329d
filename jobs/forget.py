"""Delete the embeddings of an image, of a person or of a time from a store, for good."""

import sys
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--store embeddings --image 000123.jpg"


def forget_embeddings() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config.scoring import ForgetConfig

    asked = parse_config(ForgetConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.scoring.scoring_paths import check_forget_inputs

    check_forget_inputs(asked.config)  # before PyTorch loads

    from reidray.scoring.store.deletion import forget

    with Activity(f"forgetting in {asked.config.store}", delay=SHOW_AFTER_SECONDS):
        return forget(asked.config)


if __name__ == "__main__":
    run_job(forget_embeddings)
