"""Pool the grid of a backbone in another way than the backbone does."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from reidray.errors import UserError


class GridPooling(nn.Module):
    """Pool the positions of a grid, or of the patches of a transformer, into one feature.

    Args:
        channels_last: whether a grid is (B, H, W, C), as some transformers of timm return it.
        prefix_tokens: tokens before those of the patches, such as a class token.
    """

    def __init__(self, *, channels_last: bool, prefix_tokens: int) -> None:
        super().__init__()
        self._channels_last, self._prefix_tokens = channels_last, prefix_tokens

    def forward(self, grid: Tensor) -> Tensor:
        """Return features (B, C) float32.

        Args:
            grid: (B, C, H, W), (B, H, W, C) or the tokens (B, N, C) of patches.
        """
        if grid.dim() == 3:
            positions = grid[:, self._prefix_tokens :].transpose(1, 2)
        elif self._channels_last:
            positions = grid.flatten(1, 2).transpose(1, 2)
        else:
            positions = grid.flatten(2)
        return self.pool(positions.float())

    def pool(self, positions: Tensor) -> Tensor:
        """Return features (B, C) of positions (B, C, N), both float32."""
        raise NotImplementedError


class AveragePooling(GridPooling):
    """Average the positions."""

    def pool(self, positions: Tensor) -> Tensor:
        """Return features (B, C) of positions (B, C, N), both float32."""
        return positions.mean(dim=2)


class GeneralizedMeanPooling(GridPooling):
    """Take the generalized mean of the positions (Radenovic et al. 2018).

    It is `mean(x ^ p) ^ (1 / p)` of the values x of a channel. All channels share the exponent p,
    which is 3 at first and is learned. At 1 it gives the average; the larger it is, the more the
    largest values count. Negative values count as `SMALLEST`; a ReLU leaves none.
    """

    SMALLEST = 1e-6

    def __init__(self, *, channels_last: bool, prefix_tokens: int) -> None:
        super().__init__(channels_last=channels_last, prefix_tokens=prefix_tokens)
        self.exponent = nn.Parameter(torch.full((1,), 3.0))

    def new_parameters(self) -> set[str]:
        """Return the parameters that no pretrained weights fill, so that none freezes them."""
        return {"exponent"}

    def pool(self, positions: Tensor) -> Tensor:
        """Return features (B, C) of positions (B, C, N), both float32."""
        powers = positions.clamp(min=self.SMALLEST).pow(self.exponent)
        return powers.mean(dim=2).pow(1 / self.exponent)


POOLINGS = {"avg": AveragePooling, "gem": GeneralizedMeanPooling}


def replace_pooling(body: nn.Module, pooling: Literal["avg", "gem"], name: str) -> GridPooling:
    """Take the pooling out of a backbone, and return the one that follows the backbone instead.

    Layers of timm's models that follow the pooling, such as a normalisation, then apply to each
    position of the grid.

    Args:
        body: a backbone, whose `forward` returns the grid afterwards.
        pooling: name of the pooling.
        name: name of the backbone, for messages.

    Raises:
        UserError: the backbone has no pooling that can be taken out.
    """
    whole: Any = body
    try:
        whole.reset_classifier(0, "")
    except (AssertionError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise UserError(
            f"backbone {name} pools its features in a way of its own, which no other pooling "
            "replaces: use `network.pooling=own`"
        ) from error
    return POOLINGS[pooling](
        channels_last=getattr(body, "output_fmt", "NCHW") == "NHWC",
        prefix_tokens=getattr(body, "num_prefix_tokens", 0),
    )
