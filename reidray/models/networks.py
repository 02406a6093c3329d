"""Whole networks for pedestrians: what they compute from a batch of crops."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reidray.models.backbones import Backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Outputs:
    """What a network says of B crops.

    Attributes:
        embedding: (B, D) float32, what images are compared by.
        metric_feature: (B, M) float32, what the triplet loss pulls together and pushes apart.
        identity: (B, people) float32 logits; no column where the network knows nobody.
        attributes: one (B, values) float32 tensor of logits for each attribute.
    """

    embedding: Tensor
    metric_feature: Tensor
    identity: Tensor
    attributes: tuple[Tensor, ...]


class Network(nn.Module):
    """A network from uint8 crops to `Outputs`; it normalises the pixels itself.

    Attributes:
        embedding_size: D, the length of the embedding.
    """

    embedding_size: int
    mean: Tensor
    deviation: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1) * 255)

    def pool(self, crops: Tensor) -> Tensor:
        """Crops (B, 3, H, W), uint8 or float32 in 0..255, to pooled features (B, F) float32."""
        images = (crops.float() - self.mean) / self.deviation
        feature: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return feature


class BaselineNetwork(Network):
    """Pooled feature, batch-normalisation neck, identity classifier (Luo et al. 2019).

    The triplet loss sees the feature before the neck, the classifier and the ranking after it.
    """

    def __init__(self, backbone: Backbone, num_people: int) -> None:
        super().__init__(backbone)
        self.embedding_size = backbone.num_features
        self.neck = nn.BatchNorm1d(backbone.num_features)
        self.neck.bias.requires_grad_(False)
        self.identity = nn.Linear(backbone.num_features, num_people, bias=False)
        nn.init.normal_(self.identity.weight, std=0.001)

    def forward(self, crops: Tensor) -> Outputs:
        """Crops (B, 3, H, W), uint8 or float32 in 0..255."""
        feature = self.pool(crops)
        embedding = self.neck(feature)
        return Outputs(embedding, feature, self.identity(embedding), ())


class AttributePersonNetwork(Network):
    """APR: attributes and identity together, each helping the other (Lin et al. 2017).

    A dense layer with batch normalisation and ReLU follows the pooled feature. One classifier for
    each attribute reads it; the attributes' probabilities `a` are re-weighted by a learned
    confidence, `c = sigmoid(V a + b)`, `a = c * a`. The embedding is the dense feature with the
    re-weighted attributes behind it, and the identity classifier reads that.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_people: int,
        attribute_sizes: tuple[int, ...],
        feature_size: int,
        dropout: float,
    ) -> None:
        super().__init__(backbone)
        total = sum(attribute_sizes)
        self.embedding_size = feature_size + total
        self.dense = nn.Sequential(
            nn.Linear(backbone.num_features, feature_size),
            nn.BatchNorm1d(feature_size),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.attributes = nn.ModuleList(nn.Linear(feature_size, size) for size in attribute_sizes)
        self.confidence = nn.Linear(total, total)
        self.identity = nn.Linear(self.embedding_size, num_people)

    def forward(self, crops: Tensor) -> Outputs:
        """Crops (B, 3, H, W), uint8 or float32 in 0..255."""
        feature = self.dense(self.pool(crops))
        logits = tuple(classifier(feature) for classifier in self.attributes)
        probabilities = torch.cat([values.softmax(dim=1) for values in logits], dim=1)
        reweighted = torch.sigmoid(self.confidence(probabilities)) * probabilities
        embedding = torch.cat([feature, reweighted], dim=1)
        return Outputs(embedding, embedding, self.identity(embedding), logits)
