"""Build layers that several of the reports' networks share, and initialise their weights."""

from itertools import pairwise

from torch import nn

from reidray.errors import UserError


def convolution(channels_in: int, channels_out: int, size: int = 3) -> nn.Conv2d:
    """Return a convolution that keeps height and width, with a bias."""
    return nn.Conv2d(channels_in, channels_out, size, padding="same")


def vgg_blocks(
    channels: tuple[int, ...], dropout: float, *, dropout_first: bool = False
) -> nn.Sequential:
    """Return blocks of two 3x3 convolutions, with max-pooling between the blocks.

    Each block has one batch normalisation, after its second convolution, and drops whole channels
    (spatial dropout).

    Args:
        channels: channels of the image, then of each block.
        dropout: share of the channels dropped in training.
        dropout_first: drop channels before the batch normalisation instead of after the ReLU that
            follows it.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.MaxPool2d(2)] if layers else []
        layers += [convolution(before, after), nn.ReLU(), convolution(after, after)]
        normalised, dropped = [nn.BatchNorm2d(after), nn.ReLU()], [nn.Dropout2d(dropout)]
        layers += [*dropped, *normalised] if dropout_first else [*normalised, *dropped]
    return nn.Sequential(*layers)


def pooled_size(height: int, width: int, stride: int) -> int:
    """Return the number of pixels after pooling, which divides both sides by `stride`."""
    return (height // stride) * (width // stride)


def require_multiples(height: int, width: int, stride: int) -> None:
    """Check that the sides of images are multiples of `stride`, so that masks have the same size.

    Raises:
        UserError: a side is not a multiple of `stride`.
    """
    if height % stride or width % stride:
        raise UserError(
            f"images of {height}x{width} do not fit the network: so that masks have their size, "
            f"height and width must be multiples of {stride}"
        )


def init_like_keras(module: nn.Module) -> None:
    """Initialise every layer as Keras does: glorot uniform weights, biases of 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
