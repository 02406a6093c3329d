"""Embed a set of images into a Parquet file."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.jobs.embedding import EmbedConfig


def embed(arguments: "JobArguments[EmbedConfig]") -> dict[str, Any]:
    """Embed the images of the configuration."""
    from reidray.inference.runs.embed_checks import check_embed
    from reidray.progress import SHOW_AFTER_SECONDS, Activity

    config = arguments.config
    check_embed(config)  # before PyTorch loads

    with Activity("loading PyTorch", delay=SHOW_AFTER_SECONDS):
        from reidray.inference.runs.embedding_run import run_embedding
        from reidray.ray_runtime import gpu_setting

    session = arguments.session.connect(needs_gpu=gpu_setting(config.use_gpu))
    return run_embedding(config, session, starts_ray=arguments.session.starts_ray)


JOB = Job(
    name="embed",
    description="Embed the images of a folder or a manifest into one Parquet file.",
    example="--model RUN/model --data CROPS --output embeddings.parquet",
    config="reidray.config.jobs.embedding:EmbedConfig",
    run=embed,
)
