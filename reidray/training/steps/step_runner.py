"""Run the steps of a training by the share of it that is done."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from reidray.config import OptimizerConfig
from reidray.training.distributed_context import (
    DistributedContext,
    running_statistics,
    synchronize_batch_norm,
)
from reidray.training.steps.forward_pass import ForwardPass, one_line_compile_errors
from reidray.training.steps.optimizers import schedule_optimizer
from reidray.training.steps.parameter_groups import freezable_backbone
from reidray.training.steps.training_step import LossTask, StepResult, run_step


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Set the optimiser and the precision of the steps of a training.

    Attributes:
        optimizer: optimiser and learning rate.
        bf16: whether the network computes in bfloat16. Otherwise it computes in float32, whose
            products are TF32 on a GPU. Losses, weights and the optimiser are float32.
        compile: whether `torch.compile` compiles the network.
        sync_batchnorm: whether several processes compute the statistics of batch normalisation
            together, on GPUs.
    """

    optimizer: OptimizerConfig
    bf16: bool = False
    compile: bool = False
    sync_batchnorm: bool = False


class StepRunner:
    """Run steps with the learning rate, and the frozen backbone, of the share that is done.

    The steps before and after the backbone is released have forward passes of their own: DDP
    exchanges the gradients of the weights that train when it is built, and `torch.compile` builds
    a backward pass for them.

    Args:
        task: computes the losses, which are parts of the network.
        network: network to train, on its device.
        optimizer: optimiser of its weights.
        config: optimiser and precision.
        context: this process.
    """

    def __init__(
        self,
        task: LossTask,
        network: nn.Module,
        optimizer: Optimizer,
        config: StepConfig,
        context: DistributedContext,
    ) -> None:
        self._task, self._network, self._optimizer = task, network, optimizer
        self._config, self._context = config, context
        self._backbone, self._freezable = nn.Module(), list[nn.Parameter]()
        if config.optimizer.freeze_backbone > 0:
            self._backbone, self._freezable = freezable_backbone(network)
        self._is_frozen = False
        if context.world_size > 1 and config.sync_batchnorm:
            synchronize_batch_norm(network)
        self._forward_pass: ForwardPass | None = None
        self._steps = 0

    @property
    def is_warm_up(self) -> bool:
        """Return whether the last step was the first of its forward pass, which may compile it."""
        return self._steps == 1

    def set_training_mode(self) -> None:
        """Set the network to training mode, and a frozen backbone to evaluation mode."""
        self._network.train()
        if self._is_frozen:
            self._backbone.eval()

    def run(self, batch: Any, done: float) -> StepResult:
        """Run a step without waiting for the device.

        Args:
            batch: batch of the task.
            done: share of the training that is done, the same on every rank.

        Raises:
            UserError: this machine cannot compile the network.
        """
        forward_pass = self._prepare_forward_pass(done)
        schedule_optimizer(self._optimizer, self._config.optimizer, min(done, 1.0))
        self._steps += 1
        compiles = self._config.compile and self.is_warm_up
        with one_line_compile_errors() if compiles else nullcontext():
            return run_step(
                self._task,
                forward_pass,
                self._optimizer,
                batch,
                max_grad_norm=self._config.optimizer.max_grad_norm,
            )

    def _prepare_forward_pass(self, done: float) -> ForwardPass:
        """Return the forward pass of a step, after the backbone is frozen or released."""
        freezes = done < self._config.optimizer.freeze_backbone
        before = self._forward_pass
        if before is not None and freezes == self._is_frozen:
            return before
        self._is_frozen, self._steps = freezes, 0
        for parameter in self._freezable:
            parameter.requires_grad_(not freezes)
        self._forward_pass = ForwardPass(
            self._wrap_network(),
            self._context.device,
            bf16=self._config.bf16,
            compiled=self._config.compile,
            batch_size=None if before is None else before.batch_size,
        )
        self.set_training_mode()
        return self._forward_pass

    def _wrap_network(self) -> nn.Module:
        """Return the network to train, wrapped for DDP where there are several processes.

        The losses are parts of the network, so that DDP averages the gradients of their weights
        too. `static_graph` stays off: DDP finds no tensors in the dataclass that a network returns,
        and would then average no gradient at all.
        """
        if self._context.world_size == 1:
            return self._network
        is_gpu = self._context.device.type == "cuda"
        # A step uses no running statistics but those of a frozen backbone, which all ranks start
        # with and none changes: `broadcast_statistics` shares them once a validation.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            self._network, running_statistics(self._network)
        )
        return DistributedDataParallel(
            self._network,
            device_ids=[self._context.device] if is_gpu else None,
            gradient_as_bucket_view=True,
        )
