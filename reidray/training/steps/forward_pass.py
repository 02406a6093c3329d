"""Run the forward pass of a training in float32 or bfloat16, compiled or not."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from reidray.errors import UserError
from reidray.retrieval.numerics import matmul_precision


class ForwardPass(nn.Module):
    """Run a network in the precision of a training, and return its outputs in float32.

    A task calls it in place of the network. bfloat16 covers the network but not the losses. Where
    the training uses float32 on a GPU, the same holds for TF32.

    Args:
        module: the network, or DDP around it.
        device: device of the network.
        bf16: whether the network computes in bfloat16.
        compiled: whether `torch.compile` compiles the network, for batches of one size. Batches of
            another size run uncompiled, so that the last batch of an epoch does not cause another
            compilation.
        batch_size: this size; by default that of the first batch.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        *,
        bf16: bool = False,
        compiled: bool = False,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.module, self.batch_size = module, batch_size
        self._device, self._bf16 = device, bf16
        self._compiled = _compile(module) if compiled else module

    def forward(self, images: Tensor, *labels: Tensor) -> Any:
        """Return the outputs for images (B, 3, H, W), with float32 tensors.

        Args:
            images: (B, 3, H, W).
            labels: labels (B, ...) of the images that the network reads, such as their cameras.
        """
        if self.batch_size is None:
            self.batch_size = len(images)
        run = self._compiled if len(images) == self.batch_size else self.module
        autocast = (
            torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext()
        )
        with self.products(), autocast:
            outputs = run(images, *labels)
        return to_float32(outputs) if self._bf16 else outputs

    def products(self) -> AbstractContextManager[None]:
        """Return the context that sets the precision of the matrix products of both passes."""
        return nullcontext() if self._bf16 else tf32_products(self._device)


@contextmanager
def tf32_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices in TF32 where the device is a GPU.

    TF32 has the exponent of float32 and 10 bits of mantissa. cuDNN's convolutions use it by
    default; matrix products do so only here, and retrieval never does.
    """
    if device.type != "cuda":
        yield
        return
    with matmul_precision("high"):
        yield


def to_float32(outputs: Any) -> Any:
    """Return the outputs of a network with its floating-point tensors cast to float32."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, tuple):
        return tuple(to_float32(each) for each in outputs)
    if is_dataclass(outputs) and not isinstance(outputs, type):
        values = {each.name: to_float32(getattr(outputs, each.name)) for each in fields(outputs)}
        return replace(outputs, **values)
    return outputs


def _compile(module: nn.Module) -> Callable[..., Any]:
    try:
        return torch.compile(module, dynamic=False)
    except RuntimeError as error:
        raise _cannot_compile(error) from error


@contextmanager
def one_line_compile_errors() -> Iterator[None]:
    """Turn a failure to compile, which occurs in the first step, into a `UserError`.

    Raises:
        UserError: this machine cannot compile the network.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    try:
        yield
    except TorchDynamoException as error:
        raise _cannot_compile(error) from error


def _cannot_compile(error: Exception) -> UserError:
    reason = str(error).strip().partition("\n")[0]
    return UserError(f"this machine cannot compile the network ({reason}): train without `compile`")
