"""Recognise people with networks on any backbone."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.config.options.person_networks import (
    AprOptions,
    BaselineOptions,
    JointOptions,
    SmallReidOptions,
)
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.models.backbones import Backbone
from reidray.models.backbones.reid_transformer import ReidTransformer
from reidray.models.factory import register_network
from reidray.models.networks.network import Network, Outputs

MARKET_PEOPLE = 751
"""The number of training people of Market-1501, on which the papers report."""


class PersonNetwork(Network):
    """Run a backbone over crops that are scaled as the backbone's pretrained weights expect."""

    def __init__(self, backbone: Backbone | ReidTransformer, embedding_size: int) -> None:
        super().__init__(backbone.pixels, embedding_size)
        self.backbone = backbone

    def pool(self, crops: Tensor) -> Tensor:
        """Return pooled features (B, F) float32 of crops (B, 3, H, W)."""
        feature: Tensor = self.backbone(self.scale(crops))
        return feature


def batch_norm_neck(features: int) -> nn.BatchNorm1d:
    """Return a batch normalisation of features, without a bias that trains (Luo et al. 2019)."""
    neck = nn.BatchNorm1d(features)
    neck.bias.requires_grad_(False)
    return neck


def identity_classifier(features: int, num_people: int) -> nn.Linear:
    """Return a classifier of people for features behind a batch normalisation, without a bias."""
    classifier = nn.Linear(features, num_people, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier


class BaselineNetwork(PersonNetwork):
    """Classify people after a batch-normalisation neck (Luo et al. 2019).

    The triplet loss uses the feature before the neck. The classifier and the ranking use the
    feature after it.
    """

    def __init__(self, backbone: Backbone, num_people: int) -> None:
        super().__init__(backbone, backbone.num_features)
        self.neck = batch_norm_neck(backbone.num_features)
        self.identity = identity_classifier(backbone.num_features, num_people)

    def forward(self, crops: Tensor) -> Outputs:
        """Return the outputs for crops (B, 3, H, W), uint8 or float32 in 0..255."""
        feature = self.pool(crops)
        embedding = self.neck(feature)
        return Outputs(embedding, feature, self.identity(embedding), ())


@register_network("baseline", backbone="resnet50", num_people=MARKET_PEOPLE)
def build_baseline(architecture: Architecture[BaselineOptions], weights: str) -> BaselineNetwork:
    """Build `baseline`."""
    return BaselineNetwork(Backbone(architecture.options, weights), architecture.num_people)


class JointNetwork(BaselineNetwork):
    """Classify attributes beside people, both after the batch-normalisation neck.

    One classifier for each attribute reads the feature that the ranking uses.
    """

    def __init__(
        self, backbone: Backbone, num_people: int, attribute_sizes: tuple[int, ...], dropout: float
    ) -> None:
        super().__init__(backbone, num_people)
        self.dropout = nn.Dropout(dropout)
        self.attributes = nn.ModuleList(
            nn.Linear(self.embedding_size, size) for size in attribute_sizes
        )

    def forward(self, crops: Tensor) -> Outputs:
        """Return the outputs for crops (B, 3, H, W), uint8 or float32 in 0..255."""
        feature = self.pool(crops)
        embedding = self.neck(feature)
        kept = self.dropout(embedding)
        logits = tuple(classifier(kept) for classifier in self.attributes)
        return Outputs(embedding, feature, self.identity(embedding), logits)


@register_network("joint", backbone="resnet50", num_people=MARKET_PEOPLE, schema=PEDESTRIAN_SCHEMA)
def build_joint(architecture: Architecture[JointOptions], weights: str) -> JointNetwork:
    """Build `joint`.

    Raises:
        UserError: the data has no attributes.
    """
    _check_attributes(architecture)
    return JointNetwork(
        Backbone(architecture.options, weights),
        architecture.num_people,
        architecture.schema.sizes,
        architecture.options.dropout,
    )


class SmallPersonNetwork(PersonNetwork):
    """Scale the normalised feature to length 1 for the embedding, and classify people by it.

    Unlike in `BaselineNetwork`, the triplet loss uses embeddings of length 1. With a margin of 1
    and semi-hard negatives, the network learns faster from a few hundred people than with the
    hardest negatives.
    """

    def __init__(self, backbone: Backbone, num_people: int) -> None:
        super().__init__(backbone, backbone.num_features)
        self.neck = nn.BatchNorm1d(backbone.num_features)
        self.identity = identity_classifier(backbone.num_features, num_people)

    def forward(self, crops: Tensor) -> Outputs:
        """Return the outputs for crops (B, 3, H, W), uint8 or float32 in 0..255."""
        feature = self.neck(self.pool(crops))
        embedding = functional.normalize(feature)
        return Outputs(embedding, embedding, self.identity(feature), ())


@register_network("reid_small", num_people=300)
def build_reid_small(
    architecture: Architecture[SmallReidOptions], weights: str
) -> SmallPersonNetwork:
    """Build `reid_small`."""
    return SmallPersonNetwork(Backbone(architecture.options, weights), architecture.num_people)


class AttributePersonNetwork(PersonNetwork):
    """Learn attributes and identity together, as APR does (Lin et al. 2019).

    A dense layer with batch normalisation and ReLU follows the pooled feature. One classifier for
    each attribute reads it; the attributes' probabilities `a` are re-weighted by a learned
    confidence, `c = sigmoid(V a + b)`, `a = c * a`. The embedding is the concatenation of the dense
    feature and the re-weighted attributes, and the identity classifier reads the embedding. With a
    neck (Luo et al. 2019), a batch normalisation precedes both, and losses between images read the
    concatenation before it.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_people: int,
        attribute_sizes: tuple[int, ...],
        options: AprOptions,
    ) -> None:
        feature_size, dropout = options.feature_size, options.dropout
        total = sum(attribute_sizes)
        super().__init__(backbone, feature_size + total)
        self.dense = nn.Sequential(
            nn.Linear(backbone.num_features, feature_size),
            nn.BatchNorm1d(feature_size),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.attributes = nn.ModuleList(nn.Linear(feature_size, size) for size in attribute_sizes)
        self.confidence = nn.Linear(total, total)
        self.identity = nn.Linear(self.embedding_size, num_people, bias=not options.neck)
        self.neck = batch_norm_neck(self.embedding_size) if options.neck else nn.Identity()

    def forward(self, crops: Tensor) -> Outputs:
        """Return the outputs for crops (B, 3, H, W), uint8 or float32 in 0..255."""
        feature = self.dense(self.pool(crops))
        logits = tuple(classifier(feature) for classifier in self.attributes)
        probabilities = torch.cat([values.softmax(dim=1) for values in logits], dim=1)
        reweighted = torch.sigmoid(self.confidence(probabilities)) * probabilities
        joined = torch.cat([feature, reweighted], dim=1)
        embedding = self.neck(joined)
        return Outputs(embedding, joined, self.identity(embedding), logits)


@register_network("apr", backbone="resnet50", num_people=MARKET_PEOPLE, schema=PEDESTRIAN_SCHEMA)
def build_apr(architecture: Architecture[AprOptions], weights: str) -> AttributePersonNetwork:
    """Build `apr`.

    Raises:
        UserError: the data has no attributes.
    """
    _check_attributes(architecture)
    return AttributePersonNetwork(
        Backbone(architecture.options, weights),
        architecture.num_people,
        architecture.schema.sizes,
        architecture.options,
    )


def _check_attributes(architecture: Architecture[Any]) -> None:
    """Check that the data has attributes.

    Raises:
        UserError: it has none.
    """
    if not architecture.schema.attributes:
        raise UserError(
            f"network {architecture.name!r} learns attributes and the data has none: "
            "add annotations_train.csv or attr_ columns, or use `network.name=baseline`"
        )
