"""Build the optimiser of a configuration, and schedule its learning rate."""

from math import cos, pi

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from reidray.config import OptimizerConfig


def build_optimizer(config: OptimizerConfig, network: nn.Module) -> Optimizer:
    """Build the optimiser of a network's trainable parameters.

    Weight decay leaves out biases and the parameters of normalisation layers. On a GPU the step is
    one fused kernel for many parameters, which PyTorch has for all optimisers but rmsprop.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = config.learning_rate
    fused = True if trainable and trainable[0].is_cuda else None
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


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """Return the learning rate once a share `progress`, in 0..1, of the training is done."""
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
