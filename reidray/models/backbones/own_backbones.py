"""Register backbones that timm does not have by their names."""

from collections.abc import Callable

from torch import nn

from reidray.registry import Registry

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
