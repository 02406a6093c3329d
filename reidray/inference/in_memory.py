"""Embed paths, PIL images and arrays in this process, on a CPU or a GPU."""

import os
import posixpath
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reidray.data.images.decoding import decode_image
from reidray.data.images.pil_images import MAX_BYTES, ImageDecodeError, turn_upright
from reidray.errors import UserError
from reidray.inference.device_buffers import download
from reidray.inference.inference_settings import choose_settings
from reidray.inference.prediction_loop import prepare_network
from reidray.models import LoadedModel
from reidray.storage.location import Location

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8]"
"""A local path, an `s3://` URI, a PIL image, or (H, W, 3) RGB or (H, W) grey uint8 pixels."""

_PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"})


def embed(
    model: LoadedModel,
    images: Iterable[ImageLike],
    *,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    flip: bool = False,
) -> NDArray[np.float32]:
    """Return the embeddings of images.

    Images are decoded, resized and embedded in batches, so that `images` may be a generator of
    more than memory holds. The embeddings of a file are those of a nightly run, up to the rounding
    of float32. On a GPU the process then keeps deterministic algorithms of cuDNN, without TF32,
    which may slow down a training in that process.

    Args:
        model: a model of `reidray.load_model` whose network embeds.
        images: local paths, `s3://` URIs, PIL images, or uint8 arrays of shape (H, W, 3) in RGB or
            (H, W) in grey. An array (N, H, W, 3) is N images. Links are followed. A large JPEG is
            decoded at a half, a quarter or an eighth of its size, and an array is resized from its
            whole size, so that the embeddings of the two differ a little.
        device: "auto" for a GPU where PyTorch finds one, else the CPU; or a device of PyTorch.
        precision: "bf16" runs the backbone in bfloat16, "fp32" everything in full float32; "auto"
            is bf16 on a GPU, else fp32.
        flip: average the embeddings of each image and of its mirror image.

    Returns:
        (N, D) float32, one row for each image, not normalised.

    Raises:
        UserError: the network gives no embedding, the device is not available, the precision does
            not exist, or an image cannot be decoded; the message names the image.
    """
    if not isinstance(model, LoadedModel):
        raise TypeError(f"`model` is {type(model).__name__}: give a model of `load_model`")
    if not model.network.embedding_size:
        raise UserError(f"network {model.architecture.name!r} gives no embedding")
    one_array = isinstance(images, np.ndarray) and images.ndim in (2, 3)
    if one_array or isinstance(images, str | os.PathLike | Image.Image):
        raise TypeError("`images` is one image: give a list of images")
    torch_device = torch.device(_choose_device(device))
    settings = choose_settings(precision, flip, on_gpu=torch_device.type == "cuda")
    size = model.architecture.size
    network = prepare_network(model.network, size, settings, torch_device)
    batches = _group_crops(_read_crops(images, size), network.batch_size)
    parts = [each.predictions.embeddings for each in download(network.predict(batches))]
    return np.concatenate(parts or [np.empty((0, model.network.embedding_size), np.float32)])


def _choose_device(device: str) -> str:
    """Return a device that PyTorch has.

    Raises:
        UserError: PyTorch does not know the device or cannot reach it.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"`device={device!r}` is not available ({reason}): use `device='auto'`"
        ) from None
    return device


def _read_crops(images: Iterable[ImageLike], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the (H, W, 3) uint8 RGB pixels of each image, resized.

    Raises:
        UserError: an image cannot be decoded.
    """
    for index, image in enumerate(images):
        try:
            yield _resized(_decode(image, size), size)
        except (ImageDecodeError, OSError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            shown = f" ({image})" if isinstance(image, str | os.PathLike) else ""
            raise UserError(f"image {index}{shown} cannot be read: {reason}") from None


def _decode(image: ImageLike, size: tuple[int, int]) -> NDArray[np.uint8]:
    if isinstance(image, str | os.PathLike):
        file = Location(os.fspath(image), follow_links=True)
        name = posixpath.basename(file.path)
        return decode_image(file.parent.read_bytes(name, MAX_BYTES), size)
    if isinstance(image, Image.Image):
        if image.mode not in _PLAIN_MODES:
            raise ImageDecodeError(f"PIL mode {image.mode}, expected 8 bits a channel, as in RGB")
        return np.asarray(turn_upright(image).convert("RGB"))
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    ):
        raise ImageDecodeError(
            f"an array of {pixels.dtype} and shape {pixels.shape}, "
            "expected uint8 and (height, width, 3) or (height, width)"
        )
    if not pixels.size:
        raise ImageDecodeError(f"an array of shape {pixels.shape} has no pixels")
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    pil_image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(pil_image.resize(size[::-1], Image.Resampling.BILINEAR))


def _group_crops(
    crops: Iterator[NDArray[np.uint8]], batch_size: int
) -> Iterator[list[NDArray[np.uint8]]]:
    while batch := list(islice(crops, batch_size)):
        yield [crop[None] for crop in batch]
