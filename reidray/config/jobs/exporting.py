"""Configure the export of a trained network for other programs."""

from dataclasses import dataclass
from typing import Literal

from reidray.config.sections.limits import require
from reidray.registry import import_plugins

ExportFormat = Literal["onnx", "torch-export", "safetensors", "timm"]

SUFFIXES: dict[ExportFormat, str] = {
    "onnx": ".onnx",
    "torch-export": ".pt2",
    "safetensors": ".safetensors",
    "timm": ".safetensors",
}
"""The end of the name of a file of each format."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Configure the export of a model.

    Attributes:
        model: model directory, RUN/model of a training run.
        output: file to write, new, local or s3://; its name ends in .onnx, .pt2 (torch-export) or
            .safetensors.
        format: onnx and torch-export hold the network with its preprocessing; safetensors holds
            the weights of the network, timm those of its backbone by the names of timm.
        pixels: what the file takes as images: uint8 RGB pixels, which it scales itself, or float32
            pixels that the caller has scaled by the mean and deviation of the metadata.
        normalize: scale embeddings to length 1; auto does so where the metric of the model is
            cosine.
        precision: fp32; fp16 halves the file, for GPUs; int8 quarters it, for CPUs, and needs
            `check_images`.
        check_images: folder or s3:// URI of crops: the outputs of the file for some of them are
            compared with those of PyTorch, and others calibrate int8; by default drawn people are
            compared.
        plugins: modules on the Python path that register the network of the model, where the
            network is your own.
    """

    model: str
    output: str
    format: ExportFormat = "onnx"
    pixels: Literal["uint8", "float32"] = "uint8"
    normalize: Literal["auto", "yes", "no"] = "auto"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    check_images: str | None = None
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        import_plugins(self.plugins)
        suffix = SUFFIXES[self.format]
        name = self.output.partition("?")[0]
        require(
            name.endswith(suffix),
            f"`output` {self.output}: expected a file name that ends in {suffix} for "
            f"`format={self.format}`",
        )
        if self.format in ("safetensors", "timm"):
            for field in ("pixels", "normalize", "check_images"):
                require(
                    getattr(self, field) == getattr(ExportConfig, field),
                    f"`{field}` goes with the formats onnx and torch-export: leave it out, as "
                    "weights alone take no images",
                )
        require(
            self.precision == "fp32" or self.format == "onnx",
            f"`precision={self.precision}` goes with `format=onnx`: leave it out",
        )
        require(
            self.precision != "int8" or self.check_images is not None,
            "`precision=int8` needs real crops, from which it takes the ranges of the layers: name "
            "their folder in `check_images`",
        )
