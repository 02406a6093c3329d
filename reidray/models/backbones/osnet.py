"""Build OSNet and OSNet-AIN, backbones that learn features of several scales in each block.

Zhou et al. 2019, "Omni-Scale Feature Learning for Person Re-Identification", and Zhou et al. 2021,
"Learning Generalisable Omni-Scale Representations for Person Re-Identification". Layers have the
names of Torchreid, so that its checkpoints fit.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.models.backbones.folding import fold_sequences
from reidray.models.backbones.own_backbones import PooledBackbone, register_backbone

FEATURES = 512
"""Length of the feature, at any width."""
SCALES = 4
"""Streams of a block: the stream of scale t sees 2t + 1 pixels in each direction."""
BOTTLENECK = 4
GATE_REDUCTION = 16


class InstanceNorm(nn.GroupNorm):
    """Normalise each channel of each image.

    PyTorch's group normalisation of one channel a group is faster on a CPU than its instance
    normalisation, which copies channels-last grids.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)


class Float32Linear(nn.Linear):
    """Compute in float32 under autocast too: an embedding has more than the 8 bits of bfloat16."""

    def forward(self, features: Tensor) -> Tensor:
        """Return values (B, D') float32 of features (B, D)."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class ConvLayer(nn.Sequential):
    """Convolve 1x1 and normalise, then apply ReLU unless the layer is linear."""

    def __init__(self, before: int, after: int, *, linear: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1, bias=False)
        self.bn = nn.BatchNorm2d(after)
        if not linear:
            self.relu = nn.ReLU(inplace=True)


class Stem(nn.Sequential):
    """Convolve 7x7 and normalise by batch or by image, apply ReLU and halve the sides twice."""

    def __init__(self, channels: int, *, by_image: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn = InstanceNorm(channels) if by_image else nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)


class LightConv(nn.Sequential):
    """Convolve 1x1 across channels, then 3x3 within each channel: the Lite 3x3 of the paper."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)


class LightConvStream(nn.Module):
    """Run several light convolutions one after another."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(LightConv(width) for _ in range(depth)))

    def forward(self, grid: Tensor) -> Tensor:
        """Return a grid (B, C, H, W) of the shape of the input."""
        result: Tensor = self.layers(grid)
        return result


class ChannelGate(nn.Module):
    """Weight each channel of each image by two dense layers over the means of all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // GATE_REDUCTION, 1)
        self.fc2 = nn.Conv2d(width // GATE_REDUCTION, width, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """Return the grid (B, C, H, W) with its channels weighted."""
        means = functional.adaptive_avg_pool2d(grid, 1)
        weights: Tensor = self.fc2(functional.relu(self.fc1(means), inplace=True))
        return grid * weights.sigmoid()


class OmniScaleBlock(nn.Module):
    """Add the gated streams of four scales to the input; all streams share one gate.

    Subclasses build the streams under the names of their checkpoints.
    """

    conv3: nn.Module

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        width = after // BOTTLENECK
        self.conv1 = ConvLayer(before, width)
        self.gate = ChannelGate(width)
        self.downsample = (
            nn.Identity() if before == after else ConvLayer(before, after, linear=True)
        )

    def streams(self) -> tuple[nn.Module, ...]:
        """Return the stream of each scale."""
        raise NotImplementedError

    def expand(self, grid: Tensor) -> Tensor:
        """Return the sum of the streams with the channels of the output, normalised."""
        expanded: Tensor = self.conv3(grid)
        return expanded

    def forward(self, grid: Tensor) -> Tensor:
        """Return a grid (B, C', H, W) of a grid (B, C, H, W)."""
        narrow = self.conv1(grid)
        first, *others = (self.gate(stream(narrow)) for stream in self.streams())
        return functional.relu(
            self.expand(sum(others, start=first)) + self.downsample(grid), inplace=True
        )


class OSNetBlock(OmniScaleBlock):
    """Build the streams of OSNet: one to four light convolutions."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after)
        width = after // BOTTLENECK
        self.conv2a = LightConv(width)
        self.conv2b = nn.Sequential(*(LightConv(width) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv(width) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv(width) for _ in range(4)))
        self.conv3 = ConvLayer(width, after, linear=True)

    def streams(self) -> tuple[nn.Module, ...]:
        """Return the stream of each scale."""
        return self.conv2a, self.conv2b, self.conv2c, self.conv2d


class OSNetAINBlock(OmniScaleBlock):
    """Build the streams of OSNet-AIN, and normalise their sum by batch or by image.

    Normalising each image's channels removes its style, such as the light of its camera.

    Args:
        before: channels of the input.
        after: channels of the output.
        by_image: whether instance normalisation stands in the place of batch normalisation.
    """

    def __init__(self, before: int, after: int, *, by_image: bool) -> None:
        super().__init__(before, after)
        width = after // BOTTLENECK
        self.conv2 = nn.ModuleList(LightConvStream(width, scale + 1) for scale in range(SCALES))
        if by_image:
            self.conv3 = nn.Sequential()
            self.conv3.conv = nn.Conv2d(width, after, 1, bias=False)
            self.IN: nn.Module = InstanceNorm(after)
        else:
            self.conv3 = ConvLayer(width, after, linear=True)
            self.IN = nn.Identity()

    def streams(self) -> tuple[nn.Module, ...]:
        """Return the stream of each scale."""
        return tuple(self.conv2)

    def expand(self, grid: Tensor) -> Tensor:
        """Return the sum of the streams with the channels of the output, normalised."""
        expanded: Tensor = self.IN(self.conv3(grid))
        return expanded


class MeanPooling(nn.Module):
    """Average all places of a grid."""

    def forward(self, grid: Tensor) -> Tensor:
        """Return features (B, C) float32 of a grid (B, C, H, W)."""
        # The mean of bfloat16 values has more than their 8 bits.
        return functional.adaptive_avg_pool2d(grid.float(), 1).flatten(1)


class OSNet(PooledBackbone):
    """Reduce a crop to a sixteenth of its sides, and map the mean of the grid to 512 values."""

    def __init__(self, layers: Mapping[str, nn.Module], channels: int) -> None:
        """Take the layers from the image to the grid by name, and the channels of the grid."""
        super().__init__()
        self._grid_layers = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.global_pool = MeanPooling()
        self.fc: nn.Module = nn.Sequential(
            Float32Linear(channels, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU(inplace=True)
        )
        self.num_features, self.grid_channels = FEATURES, channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def group_matcher(self) -> dict[str, str]:
        """Return the layers, as timm's models name them: the stem, the stages and the feature."""
        return {"stem": r"^conv1", "stages": r"^(?:conv|pool)([2-5])", "feature": r"^fc"}

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the grid (B, C, H / 16, W / 16) of images (B, 3, H, W) float32, normalised."""
        grid = images
        for name in self._grid_layers:
            grid = getattr(self, name)(grid)
        return grid

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, 512) float32 of images (B, 3, H, W) float32, normalised."""
        feature: Tensor = self.fc(super().forward(images))
        return feature

    def reset_classifier(self, _: int, global_pool: str) -> None:
        """Return the grid from now on (see `PooledBackbone`)."""
        super().reset_classifier(0, global_pool)
        self.fc = nn.Identity()

    def fold(self) -> None:
        """Merge each batch normalisation into the convolution before it, after training.

        The results stay the same but for rounding; a CPU embeds 1.2 to 1.6 times as many crops.
        """
        fold_sequences(self)
        self.to(memory_format=torch.channels_last)


def build_osnet(width: float) -> OSNet:
    """Return OSNet; 2.17 million parameters at width 1.

    Args:
        width: factor of the channels of all layers but the last: 0.25, 0.5, 0.75 or 1.
    """
    first, second, third, fourth = _channels(width)
    layers = {
        "conv1": Stem(first),
        "conv2": nn.Sequential(
            OSNetBlock(first, second), OSNetBlock(second, second), _transition(second)
        ),
        "conv3": nn.Sequential(
            OSNetBlock(second, third), OSNetBlock(third, third), _transition(third)
        ),
        "conv4": nn.Sequential(OSNetBlock(third, fourth), OSNetBlock(fourth, fourth)),
        "conv5": ConvLayer(fourth, fourth),
    }
    return OSNet(layers, fourth)


def build_osnet_ain(width: float) -> OSNet:
    """Return OSNet-AIN, with instance normalisation where the search of the paper put it.

    Args:
        width: factor of the channels of all layers but the last: 0.25, 0.5, 0.75 or 1.
    """
    first, second, third, fourth = _channels(width)
    layers = {
        "conv1": Stem(first, by_image=True),
        "conv2": nn.Sequential(
            OSNetAINBlock(first, second, by_image=True),
            OSNetAINBlock(second, second, by_image=True),
        ),
        "pool2": _transition(second),
        "conv3": nn.Sequential(
            OSNetAINBlock(second, third, by_image=False),
            OSNetAINBlock(third, third, by_image=True),
        ),
        "pool3": _transition(third),
        "conv4": nn.Sequential(
            OSNetAINBlock(third, fourth, by_image=True),
            OSNetAINBlock(fourth, fourth, by_image=False),
        ),
        "conv5": ConvLayer(fourth, fourth),
    }
    return OSNet(layers, fourth)


register_backbone("osnet_x1_0")(partial(build_osnet, 1.0))
register_backbone("osnet_x0_75")(partial(build_osnet, 0.75))
register_backbone("osnet_x0_5")(partial(build_osnet, 0.5))
register_backbone("osnet_x0_25")(partial(build_osnet, 0.25))
register_backbone("osnet_ain_x1_0")(partial(build_osnet_ain, 1.0))
register_backbone("osnet_ain_x0_75")(partial(build_osnet_ain, 0.75))
register_backbone("osnet_ain_x0_5")(partial(build_osnet_ain, 0.5))
register_backbone("osnet_ain_x0_25")(partial(build_osnet_ain, 0.25))


def _channels(width: float) -> tuple[int, ...]:
    """Return the channels after the first convolution and in the three stages."""
    return tuple(round(width * channels) for channels in (64, 256, 384, 512))


def _transition(channels: int) -> nn.Sequential:
    """Return the layers that halve the sides of the grid between two stages."""
    return nn.Sequential(ConvLayer(channels, channels), nn.AvgPool2d(2, stride=2))
