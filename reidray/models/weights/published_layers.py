"""Run some layers of a published network, whose files give the weights other names."""

from typing import Any

from torch import nn


class PublishedLayers(nn.Sequential):
    """Run layers that were taken out of a published network, one after another.

    Args:
        network: the published network.
        layers: some of its layers.

    Attributes:
        published_names: names of the weights in the published network by their names here.
    """

    def __init__(self, network: nn.Module, *layers: nn.Module) -> None:
        super().__init__(*layers)
        names = {id(value): name for name, value in _state(network).items()}
        self.published_names = {own: names[id(value)] for own, value in _state(self).items()}


def _state(module: nn.Module) -> dict[str, Any]:
    """Return the parameters and buffers themselves by name, and not copies of them."""
    return module.state_dict(keep_vars=True)
