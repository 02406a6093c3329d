"""Build ResNet-50 with instance and batch normalisation, IBN-Net-a (Pan et al. 2018)."""

from typing import Any

import torch
from torch import Tensor, nn

from reidray.models.backbones.osnet import InstanceNorm
from reidray.models.backbones.own_backbones import register_backbone


class InstanceBatchNorm(nn.Module):
    """Normalise half of the channels for each image alone, and the others over the batch.

    Instance normalisation removes what changes with the camera, such as contrast and colour.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.counts = [channels // 2, channels - channels // 2]
        instance_channels, batch_channels = self.counts
        self.IN = InstanceNorm(instance_channels)  # names of the published weights
        self.BN = nn.BatchNorm2d(batch_channels)

    def forward(self, grid: Tensor) -> Tensor:
        """Return the normalised grid (B, C, H, W)."""
        alone, together = torch.split(grid, self.counts, dim=1)
        return torch.cat((self.IN(alone), self.BN(together)), dim=1)


@register_backbone("resnet50_ibn_a")
def build_resnet50_ibn_a() -> nn.Module:
    """Build `resnet50_ibn_a`: ResNet-50 with instance normalisation in its first three stages.

    The first normalisation of each block of these stages is an `InstanceBatchNorm`. The network has
    the parameters of ResNet-50, 23,508,032 without a classifier, under the names of IBN-Net's
    published weights.
    """
    import timm

    body: Any = timm.create_model("resnet50", num_classes=0)
    for stage in (body.layer1, body.layer2, body.layer3):
        for block in stage:
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    whole: nn.Module = body
    return whole
