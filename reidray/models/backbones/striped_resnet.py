"""Build small residual networks that suit a CPU, and pool four horizontal stripes of a person.

`resnet_tiny` equals timm's resnet18 with one block a stage and fewer channels, which a test checks.
This module does not use timm, whose import takes longer than to embed a thousand crops.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.models.backbones.folding import fold
from reidray.models.backbones.own_backbones import PooledBackbone, register_backbone

STEM_CHANNELS = 64
STRIPES = 4


class StripedResNet(PooledBackbone):
    """Run four stages of one block (He et al. 2016), and pool four horizontal stripes.

    The last stage keeps its resolution (Luo et al. 2019). As people stand upright, each stripe is
    pooled by itself (Sun et al. 2018).

    The stem of ResNet, a convolution of 7 x 7 pixels and its pooling, takes half of the time of
    `resnet_tiny`. With `patch` the stem is one convolution of patches that do not overlap
    (Dosovitskiy et al. 2021). A CPU then trains at 128x64 in the time that 96x48 takes otherwise,
    and the network ranks better.

    Args:
        channels: channels of the stages.
        patch: rows and columns of a patch, 2 or 4, or None for the stem of ResNet.
    """

    def __init__(self, channels: tuple[int, int, int, int], *, patch: int | None = None) -> None:
        super().__init__()
        first, second, third, fourth = channels
        if patch is None:
            stem = STEM_CHANNELS
            self.conv1: nn.Module = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            stem = first
            self.conv1 = nn.Conv2d(3, stem, patch, stride=patch, bias=False)
            self.maxpool = nn.Identity()
        self.bn1: nn.Module = nn.BatchNorm2d(stem)
        self.layer1 = nn.Sequential(ResidualBlock(stem, first))
        self.layer2 = nn.Sequential(ResidualBlock(first, second, stride=2))
        self.layer3 = nn.Sequential(ResidualBlock(second, third, stride=2))
        self.layer4 = nn.Sequential(ResidualBlock(third, fourth, dilation=2))
        self.global_pool = StripePooling()
        self.num_features, self.grid_channels = STRIPES * fourth, fourth
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the grid (B, C, H', W') of images (B, 3, H, W) float32, normalised.

        H' is H / 16, or H / (4 x patch) with a patch.
        """
        grid = self.maxpool(functional.relu(self.bn1(self.conv1(images)), inplace=True))
        grid = self.layer3(self.layer2(self.layer1(grid)))
        last: Tensor = self.layer4(grid)
        return last

    def group_matcher(self) -> dict[str, str]:
        """Return the layers, as timm's models name them: the stem and the four stages."""
        return {"stem": r"^conv1|bn1", "stages": r"^layer(\d+)"}

    def fold(self) -> None:
        """Merge each normalisation into the convolution before it, after training.

        The results stay the same but for rounding; a CPU takes three quarters of the time.
        """
        self.conv1, self.bn1 = fold(self.conv1, self.bn1)
        for part in self.modules():
            if isinstance(part, ResidualBlock):
                part.fold()
        self.to(memory_format=torch.channels_last)


class StripePooling(nn.Module):
    """Average each of four horizontal stripes."""

    def forward(self, grid: Tensor) -> Tensor:
        """Return features (B, 4 C) float32 of a grid (B, C, H, W)."""
        # The mean of bfloat16 values has more than their 8 bits.
        return functional.adaptive_avg_pool2d(grid.float(), (STRIPES, 1)).flatten(1)


@register_backbone("resnet_tiny")
def build_resnet_tiny() -> StripedResNet:
    """Build `resnet_tiny`."""
    return StripedResNet((24, 48, 96, 192))


@register_backbone("resnet_small")
def build_resnet_small() -> StripedResNet:
    """Build `resnet_small`."""
    return StripedResNet((32, 64, 128, 256))


@register_backbone("resnet_nano_patch")
def build_resnet_nano_patch() -> StripedResNet:
    """Build `resnet_nano_patch`, which has 298,464 weights and suits crops of 64x32."""
    return StripedResNet((24, 48, 72, 104), patch=2)


@register_backbone("resnet_small_patch")
def build_resnet_small_patch() -> StripedResNet:
    """Build `resnet_small_patch`, which suits crops of 128x64."""
    return StripedResNet((32, 64, 128, 256), patch=4)


class ResidualBlock(nn.Module):
    """Add two convolutions, the second possibly dilated, to a projection of the input."""

    def __init__(self, before: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        # In the order in which timm draws their weights, so that a seed gives the same ones.
        projection = nn.Conv2d(before, width, 1, stride=stride, bias=False)
        self.conv1: nn.Module = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(width)
        self.conv2: nn.Module = nn.Conv2d(
            width, width, 3, padding=dilation, dilation=dilation, bias=False
        )
        second = nn.BatchNorm2d(width)
        nn.init.zeros_(second.weight)
        self.bn2: nn.Module = second
        self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, grid: Tensor) -> Tensor:
        """Return the grid (B, C', H', W') float32 of a grid (B, C, H, W) float32."""
        beside = self.downsample(grid)
        grid = functional.relu(self.bn1(self.conv1(grid)), inplace=True)
        return functional.relu(self.bn2(self.conv2(grid)) + beside, inplace=True)

    def fold(self) -> None:
        """Merge each normalisation into the convolution before it."""
        self.conv1, self.bn1 = fold(self.conv1, self.bn1)
        self.conv2, self.bn2 = fold(self.conv2, self.bn2)
        self.downsample = nn.Sequential(*fold(*self.downsample))
