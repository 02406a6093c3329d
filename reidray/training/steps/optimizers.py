"""Build the optimiser of a configuration, and schedule its learning rate and momentum."""

from math import cos, pi

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from reidray.config import OptimizerConfig
from reidray.training.steps.parameter_groups import group_parameters

CYCLE_RISE = 0.3
"""Share of the training over which the learning rate of one_cycle rises. This and the following
numbers are those of PyTorch's `OneCycleLR`."""

CYCLE_START, CYCLE_END = 1 / 25, 1 / 25e4
"""First and last learning rate of one_cycle, as shares of the highest."""

CYCLE_MOMENTA = (0.95, 0.85)
"""Momentum of one_cycle at its ends, and where the learning rate is highest."""


def build_optimizer(config: OptimizerConfig, network: nn.Module) -> Optimizer:
    """Build the optimiser of a network's trainable parameters.

    On a GPU the step is one fused kernel for many parameters, which PyTorch has for all optimisers
    but rmsprop.

    Raises:
        UserError: an option needs a backbone that the network lacks, or layers that it does not
            name.
    """
    groups = group_parameters(config, network)
    rate = config.learning_rate
    fused = True if groups and groups[0]["params"][0].is_cuda else None
    match config.name:
        case "adamw":
            return AdamW(groups, lr=rate, fused=fused)
        case "adam":
            return Adam(groups, lr=rate, fused=fused)
        case "sgd":
            nesterov = config.momentum > 0
            return SGD(groups, lr=rate, momentum=config.momentum, nesterov=nesterov, fused=fused)
        case "rmsprop":
            return RMSprop(groups, lr=rate, momentum=config.momentum)


def schedule_optimizer(optimizer: Optimizer, config: OptimizerConfig, progress: float) -> None:
    """Set the learning rates, and the momentum of one_cycle, for the share of a training.

    one_cycle leaves an optimiser without momentum without it.

    Args:
        optimizer: optimiser that `build_optimizer` returned.
        config: its configuration.
        progress: share of the training that is done, in 0..1.
    """
    rate = learning_rate(config, progress)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
        if config.schedule == "one_cycle":
            momentum = _one_cycle(progress, CYCLE_MOMENTA[0], CYCLE_MOMENTA[1], CYCLE_MOMENTA[0])
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif group["momentum"]:
                group["momentum"] = momentum


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """Return the learning rate, before any `rate_factor`, once a share of the training is done.

    Args:
        config: configuration of the optimiser.
        progress: share of the training that is done, in 0..1.
    """
    if config.schedule == "one_cycle":
        return config.learning_rate * _one_cycle(progress, CYCLE_START, 1.0, CYCLE_END)
    if progress < config.warmup:
        return config.learning_rate * max(progress, 1e-3) / config.warmup
    match config.schedule:
        case "cosine":
            done = (progress - config.warmup) / (1 - config.warmup)
            return config.learning_rate * (1 + cos(pi * min(done, 1.0))) / 2
        case "step":
            return config.learning_rate * 0.1 ** sum(m <= progress for m in config.milestones)
        case "constant":
            return config.learning_rate


def _one_cycle(progress: float, start: float, top: float, end: float) -> float:
    """Return a value of one_cycle, from `start` to `top` to `end` along half cosines."""
    if progress < CYCLE_RISE:
        first, last, done = start, top, progress / CYCLE_RISE
    else:
        first, last, done = top, end, (progress - CYCLE_RISE) / (1 - CYCLE_RISE)
    return last + (first - last) * (1 + cos(pi * min(done, 1.0))) / 2
