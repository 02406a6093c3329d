"""Build the backbone of a network: a registered one, or any timm model."""

from torch import Tensor, nn

from reidray.config.options.person_networks import BackboneOptions
from reidray.errors import UserError
from reidray.models.backbones.last_stride import keep_last_resolution
from reidray.models.backbones.own_backbones import BACKBONES
from reidray.models.backbones.pooling import replace_pooling
from reidray.models.backbones.timm_bodies import (
    create_timm_body,
    feature_length,
    find_mistake,
    unfit_size,
)
from reidray.models.networks.network import IMAGENET_SCALING, PixelScaling


class Backbone(nn.Module):
    """Map a crop to a pooled feature: a network without its classifier.

    Args:
        options: name, pooling and last stride of the backbone, and the size of a crop.
        weights: `none` for random ones, or `imagenet`.

    Attributes:
        options: as given.
        pixels: scaling of the pixels that the backbone's pretrained weights expect; that of
            ImageNet where it has none.
        num_features: length of the pooled feature.

    Raises:
        UserError: no such backbone exists, it cannot have the options, or the weights cannot be
            loaded.
    """

    def __init__(self, options: BackboneOptions, weights: str) -> None:
        super().__init__()
        self.options = options
        name = options.backbone
        body = create_body(name, weights, (options.height, options.width))
        if options.last_stride == 1:
            keep_last_resolution(body, name)
        self.body = body
        self.pooling = (
            nn.Identity()
            if options.pooling == "own"
            else replace_pooling(body, options.pooling, name)
        )
        self.pixels = pixel_scaling(body)
        self.num_features = feature_length(body)
        if not self.num_features:
            raise UserError(f"backbone {name} has no features: choose another `network.backbone`")

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (B, F) float32 of images (B, 3, H, W) float32, normalised."""
        feature: Tensor = self.pooling(self.body(images))
        return feature.float()


def pixel_scaling(body: nn.Module) -> PixelScaling:
    """Return the mean and the deviation of the pixels in the configuration of timm's weights."""
    pretrained = getattr(body, "pretrained_cfg", {})
    mean, deviation = pretrained.get("mean"), pretrained.get("std")
    if not mean or not deviation:
        return IMAGENET_SCALING
    return PixelScaling("rgb", tuple(map(float, mean)), tuple(map(float, deviation)))


def check_backbones(network: nn.Module) -> None:
    """Run the backbones of a network once over one image.

    Raises:
        UserError: a backbone gives no feature for an image of its size.
    """
    for backbone in network.modules():
        if not isinstance(backbone, Backbone):
            continue
        options = backbone.options
        size = options.height, options.width
        mistake = find_mistake(backbone, backbone.body, size, backbone.num_features)
        if mistake is None:
            continue
        if options.pooling != "own":
            raise UserError(
                f"backbone {options.backbone} gives no feature with `network.pooling="
                f"{options.pooling}` ({mistake}): use `network.pooling=own`"
            )
        raise unfit_size(options.backbone, size, mistake)


def create_body(name: str, weights: str, size: tuple[int, int] | None = None) -> nn.Module:
    """Return a registered backbone or a timm model, without a classifier, with its first weights.

    Args:
        name: name of the backbone.
        weights: `none` for random ones, or `imagenet`.
        size: height and width of an image in pixels; by default the model's own.

    Raises:
        UserError: no such backbone exists, it cannot take images of this size, or the weights
            cannot be loaded.
    """
    pretrained = weights == "imagenet"
    if name not in BACKBONES:
        body = create_timm_body(name, size, pretrained=pretrained)
    elif pretrained:
        raise UserError(
            f"backbone {name} has no ImageNet weights: use `network.weights=none`, or a "
            "timm model such as `network.backbone=resnet50`"
        )
    else:
        body = BACKBONES.get(name)()
    return body
