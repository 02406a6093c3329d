"""Configure the embedding of a set of images into a Parquet file."""

from dataclasses import dataclass
from typing import Literal

from reidray.config.scoring import STALL_MINUTES, check_embedding
from reidray.config.sections.limits import require
from reidray.registry import import_plugins

NO_LAYOUT = "none"
"""The value of `layout` that reads each image of a folder, whatever the folders within mean."""


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Configure the embedding of images into one Parquet file.

    Attributes:
        model: model directory, RUN/model of a training run.
        data: folder or s3:// URI of images, in a known layout or in none, or a CSV or Parquet
            manifest.
        output: Parquet file to write, new, local or s3://.
        layout: layout of the data; auto recognises it, and takes all images of a folder that has
            none; none always does. File names then tell person and camera, as
            0002_c1s1_000451_03.jpg does.
        split: splits of the layout to embed, of train, val, query and gallery; by default all.
        root: folder or s3:// URI where the paths of a manifest begin; by default the folder that
            its metadata names, or its own folder.
        follow_links: read images that links out of the data lead to.
        max_bad: share of the images that may fail to decode.
        num_workers: number of embedding processes; by default one for each GPU, or each CPU.
        use_gpu: auto takes GPUs where the cluster has them.
        precision: fp32 embeds in float32, bf16 runs the backbone in bfloat16; auto is bf16 on a
            GPU and fp32 on a CPU.
        flip: average the embeddings of each image and of its mirror image, which takes twice the
            time.
        stall_timeout: minutes without an answer after which an embedding process is replaced, on
            another machine where there is one; the fifth time ends the job.
        plugins: modules on the Python path that register the network of the model, where the
            network is your own.
    """

    model: str
    data: str
    output: str
    layout: str = "auto"
    split: tuple[str, ...] = ()
    root: str | None = None
    follow_links: bool = False
    max_bad: float = 0.01
    num_workers: int | None = None
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    flip: bool = False
    stall_timeout: float = STALL_MINUTES
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        import_plugins(self.plugins)
        check_embedding(self.max_bad, self.num_workers, self.stall_timeout)
        require(
            self.output.partition("?")[0].endswith(".parquet"),
            f"`output` {self.output}: expected a file name that ends in .parquet",
        )
        for name in self.split:
            require(
                name in ("train", "val", "query", "gallery"),
                f"`split` {name!r}: expected train, val, query or gallery",
            )
        require(
            not self.split or self.layout != NO_LAYOUT,
            f"`split` goes with a layout: leave it out, or leave out `layout={NO_LAYOUT}`",
        )
