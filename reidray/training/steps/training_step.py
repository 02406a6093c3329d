"""Run a training step without waiting for the device, and check the weights after an epoch."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from reidray.errors import UserError
from reidray.training.steps.forward_pass import ForwardPass


class LossTask(Protocol):
    """Compute the losses of a batch."""

    def losses(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Return the weighted losses, () float32 each."""


@dataclass(frozen=True)
class StepResult:
    """Hold what a step computed, still on its device.

    Attributes:
        names: names of the losses.
        losses: (L,) float32.
        gradient_norm: () float32, norm of the gradient before it was clipped; None where the
            training clips none.
    """

    names: tuple[str, ...]
    losses: Tensor
    gradient_norm: Tensor | None = None


def run_step(
    task: LossTask,
    forward_pass: ForwardPass,
    optimizer: Optimizer,
    batch: Any,
    *,
    max_grad_norm: float | None = None,
) -> StepResult:
    """Run the forward pass, the backward pass and a step of the optimiser.

    Args:
        task: computes the losses; the step minimises their sum.
        forward_pass: the network.
        optimizer: optimiser of its weights.
        batch: batch of the task.
        max_grad_norm: norm to which a longer gradient of all weights is shortened.
    """
    optimizer.zero_grad(set_to_none=True)
    losses = task.losses(forward_pass, batch)
    values = torch.stack(list(losses.values()))
    with forward_pass.products():
        values.sum().backward()  # type: ignore[no-untyped-call]
    norm = None
    if max_grad_norm is not None:
        weights = [each for group in optimizer.param_groups for each in group["params"]]
        norm = clip_grad_norm_(weights, max_grad_norm).detach()
    optimizer.step()
    return StepResult(tuple(losses), values.detach().float(), norm)


def check_weights(network: nn.Module, step: int) -> None:
    """Check that the weights are finite: the last step may break them after a finite loss.

    The host reads one number from the device.

    Args:
        network: the network.
        step: number of the last step, for the message.

    Raises:
        UserError: a weight is not finite; the message names the first tensor.
    """
    weights = {
        name: values for name, values in network.state_dict().items() if values.is_floating_point()
    }
    # The largest absolute value is NaN where any value is.
    if isfinite(get_total_norm(weights.values(), norm_type=inf)):
        return
    for name, values in weights.items():
        if not torch.isfinite(values).all():
            raise UserError(
                f"weights {name} are not finite after step {step}: "
                "lower `optimizer.learning_rate` or use `precision=fp32`"
            )
