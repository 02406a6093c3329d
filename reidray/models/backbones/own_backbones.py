"""Register backbones that timm does not have by their names, and hold what ours share."""

from collections.abc import Callable

from torch import Tensor, nn

from reidray.registry import Registry


class PooledBackbone(nn.Module):
    """Pool the grid that `forward_features` returns; a subclass has the layers.

    Attributes:
        global_pool: pooling of the grid.
        num_features: length of the pooled feature.
        grid_channels: channels of the grid.
    """

    global_pool: nn.Module
    num_features: int
    grid_channels: int

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the grid (B, C, H', W') of images (B, 3, H, W) float32, normalised."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (B, F) float32 of images (B, 3, H, W) float32, normalised."""
        feature: Tensor = self.global_pool(self.forward_features(images))
        return feature

    def reset_classifier(self, _: int, global_pool: str) -> None:
        """Return the grid from now on, as timm's models do; only an empty `global_pool` is known.

        Raises:
            ValueError: the name of a pooling is given.
        """
        if global_pool:
            raise ValueError(f"global_pool {global_pool!r}: expected an empty name")
        self.global_pool = nn.Identity()
        self.num_features = self.grid_channels


BuildBody = Callable[[], nn.Module]

BACKBONES: Registry[BuildBody] = Registry("backbone", "reidray.models.backbones")
"""The function that builds each backbone by the backbone's name."""

register_backbone = BACKBONES.register
"""Register a function, or a class, that builds a backbone with random weights.

A backbone has these parts of timm's models. Its `forward` maps images (B, 3, H, W) float32,
normalised, to pooled features (B, F). Its attribute `num_features` is F. After
`reset_classifier(0, "")` its `forward` returns the grid (B, C, H', W') that it pooled before,
`num_features` is C, and the grid depends on every weight that is left. Its method `group_matcher`,
if it has one, names its layers for `optimizer.layer_decay`. The source of its module holds the name
as a literal.
"""
