"""Register backbones that timm does not have by their names."""

from collections.abc import Callable

from torch import nn

from reidray.registry import Registry

BuildBody = Callable[[], nn.Module]

BACKBONES: Registry[BuildBody] = Registry("backbone", "reidray.models.backbones")
"""The function that builds each backbone by the backbone's name."""

register_backbone = BACKBONES.register
"""Register a function, or a class, that builds a backbone with random weights.

As with a model of timm, its method `forward_features` maps images (B, 3, H, W) float32, normalised,
to a grid (B, C, H', W'), its `forward` maps them to pooled features (B, F), and its attribute
`num_features` is F. Its method `group_matcher`, if it has one, names its layers for
`optimizer.layer_decay`. The source of its module must hold the name as a literal.
"""
