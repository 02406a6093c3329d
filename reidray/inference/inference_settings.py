"""Choose the precision of a network that embeds, and whether it sees mirror images too."""

from dataclasses import dataclass
from typing import Literal

from reidray.errors import UserError

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class InferenceSettings:
    """Hold what decides the embeddings of an image, besides the model and the kind of device.

    Attributes:
        precision: `bf16` runs the backbone in bfloat16 and the layers after its pooling in
            float32. `fp32` is full float32 on a GPU too, without TF32.
        flip: whether the embedding of an image is the mean of those of the image and of its mirror
            image, as in fast-reid, neither of them normalised. The probabilities of the attributes
            are means as well.
    """

    precision: Precision = "fp32"
    flip: bool = False

    def embedding_id(self, model_id: str) -> str:
        """Return the id of the embeddings that a model computes with these settings.

        Embeddings of different ids are not compared with each other. The id of plain `fp32` is
        that of the model.

        >>> InferenceSettings("bf16", flip=True).embedding_id("0123456789abcdef")
        '0123456789abcdef-bf16-flip'
        """
        parts = [model_id, "bf16" * (self.precision == "bf16"), "flip" * self.flip]
        return "-".join(filter(None, parts))


FULL_PRECISION = InferenceSettings()


def choose_settings(
    precision: Literal["auto", "fp32", "bf16"], flip: bool, *, on_gpu: bool
) -> InferenceSettings:
    """Return the settings for a kind of device: `auto` is `bf16` on a GPU and `fp32` on a CPU.

    Raises:
        UserError: the precision is none of the three.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise UserError(f"`precision` is {precision!r}: expected auto, fp32 or bf16")
    if precision == "auto":
        precision = "bf16" if on_gpu else "fp32"
    return InferenceSettings(precision, flip)
