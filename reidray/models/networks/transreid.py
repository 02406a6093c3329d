"""Recognise people with a vision transformer, as TransReID does."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidray.config.options.transformer_networks import TransReIDOptions
from reidray.models.architecture import Architecture
from reidray.models.backbones.reid_transformer import ReidTransformer
from reidray.models.factory import register_network
from reidray.models.networks.network import Outputs
from reidray.models.networks.person import (
    MARKET_PEOPLE,
    PersonNetwork,
    batch_norm_neck,
    identity_classifier,
)

MARKET_CAMERAS = 6


@register_network(
    "transreid",
    backbone="vit_base_patch16_224",
    height=256,
    width=128,
    num_people=MARKET_PEOPLE,
    num_cameras=MARKET_CAMERAS,
)
class TransReID(PersonNetwork):
    """Classify people by the whole image and by shuffled parts of it (He et al. 2021).

    Each feature has a batch-normalisation neck and a classifier of its own. The triplet loss uses
    the features before the necks. So does the ranking: the embedding is the feature of the whole
    image, and behind it those of the parts, divided by their number. Losses that classify people
    with weights of their own use the features behind the necks, joined in the same way.
    """

    def __init__(self, architecture: Architecture[TransReIDOptions], weights: str) -> None:
        backbone = ReidTransformer(architecture.options, architecture.num_cameras, weights)
        length, features = backbone.num_features, 1 + backbone.num_parts
        super().__init__(backbone, embedding_size=features * length)
        self.metric_size = length
        self.necks = nn.ModuleList(batch_norm_neck(length) for _ in range(features))
        self.identity = nn.ModuleList(
            identity_classifier(length, architecture.num_people) for _ in range(features)
        )

    def forward(self, crops: Tensor, camera_indices: Tensor | None = None) -> Outputs:
        """Return the outputs for crops (B, 3, H, W), uint8 or float32 in 0..255.

        Args:
            crops: (B, 3, H, W).
            camera_indices: (B,) int64 cameras of the crops, -1 where unknown; None where no camera
                is known, as in validation and scoring.
        """
        features = self.backbone(self.scale(crops), camera_indices).unbind(dim=1)
        used = len(features) if self.training else 1
        behind = [neck(each) for neck, each in zip(self.necks, features[:used], strict=False)]
        logits = [head(each) for head, each in zip(self.identity, behind, strict=False)]
        embedding, whole = _join(features), features[0]
        if not self.training:
            return Outputs(embedding, whole, logits[0], ())
        parts = tuple(
            Outputs(part, part, own, ()) for part, own in zip(features[1:], logits[1:], strict=True)
        )
        return Outputs(embedding, whole, logits[0], (), parts, neck_feature=_join(behind))


def _join(features: Sequence[Tensor]) -> Tensor:
    """Join the feature of whole images, and behind it those of parts divided by their number."""
    whole, *parts = features
    return torch.cat([whole, *(part / len(parts) for part in parts)], dim=1)
