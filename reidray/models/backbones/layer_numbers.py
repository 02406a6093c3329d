"""Number the layers of a backbone from its input, for learning rates that differ by layer."""

from typing import Any

from torch import nn

from reidray.errors import UserError


def number_layers(backbone: nn.Module) -> dict[str, int]:
    """Return the number of the layer of each parameter of a backbone, by the parameter's name.

    The first layer, with the embedding of patches and positions, is 0. A backbone names its layers
    as timm's models do, by a method `group_matcher`; the children of an `nn.Sequential` are its
    layers. Parameters that follow the layers, such as those of a pooling, belong to the last one.

    Raises:
        UserError: the backbone names no layers, or only one.
    """
    prefix, layers = "", _own_layers(backbone)
    body = getattr(backbone, "body", None)
    if layers is None and isinstance(body, nn.Module):
        prefix, layers = "body.", _own_layers(body)
    numbers = sorted(set((layers or {}).values()))
    if layers is None or len(numbers) < 2:
        raise UserError(
            "the backbone names no layers, which `optimizer.layer_decay` needs: leave it out, or "
            "use another `network.backbone`"
        )
    order = {number: index for index, number in enumerate(numbers)}
    return {
        name: order[layers.get(name.removeprefix(prefix), numbers[-1])]
        for name, _ in backbone.named_parameters()
    }


def _own_layers(module: Any) -> dict[str, int] | None:
    """Return the layer of each parameter that a module itself names; None where it names none."""
    if hasattr(module, "group_matcher"):
        from timm.models import group_parameters  # takes seconds to import

        layers: dict[str, int] = group_parameters(module, module.group_matcher(), reverse=True)
        return layers
    if isinstance(module, nn.Sequential):
        return {
            f"{child}.{name}": index
            for index, (child, layer) in enumerate(module.named_children())
            for name, _ in layer.named_parameters()
        }
    return None
