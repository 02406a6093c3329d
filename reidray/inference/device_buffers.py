"""Copy crops to a device, and predictions back, while the network computes on another batch.

On a CUDA device both pass through pinned memory, and crops over a stream of their own, so that no
copy keeps the host or the network waiting. On other devices the same buffers are plain memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.inference.predictions import LoopTiming, Predictions


class CropBuffers:
    """Copy batches of crops to a device through two buffers of fixed shape.

    Args:
        device: the device.
        batch_size: B, crops in a batch.
        crop_shape: height, width and channels of a crop.
    """

    def __init__(
        self, device: torch.device, batch_size: int, crop_shape: tuple[int, int, int]
    ) -> None:
        shape = (batch_size, *crop_shape)
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._next, self._previous = (_CropBuffer(device, shape, stream) for _ in range(2))

    def upload(self, crops: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Copy at most B crops to the device; black crops fill up the batch.

        Args:
            crops: arrays (N, H, W, 3) uint8, which may change once this function has returned.

        Returns:
            (B, 3, H, W) uint8 in channels-last memory, valid until the call after the next.
        """
        self._previous.mark_used()
        self._next, self._previous = self._previous, self._next
        return self._previous.upload(crops)


class _CropBuffer:
    """Hold one batch of crops in pinned memory and on the device."""

    def __init__(
        self, device: torch.device, shape: tuple[int, ...], stream: torch.cuda.Stream | None
    ) -> None:
        host = torch.empty(shape, dtype=torch.uint8, pin_memory=stream is not None)
        self._host, self._array = host, host.numpy()
        self._on_device = (
            host if device.type == "cpu" else torch.empty(shape, dtype=torch.uint8, device=device)
        )
        self._device, self._stream = device, stream
        if stream is not None:
            self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._used = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.mark_used()  # what had this memory of the device before may not have ended

    def upload(self, crops: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Copy crops to the device (see `CropBuffers.upload`)."""
        if self._stream is not None:
            self._copied.synchronize()  # the batch before the last has left the pinned memory
        end = 0
        for part in crops:
            start, end = end, end + len(part)
            self._array[start:end] = part
        self._array[end:] = 0
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                self._used.wait()
                self._on_device.copy_(self._host, non_blocking=True)
                self._copied.record()
            self._copied.wait(torch.cuda.current_stream(self._device))
        elif self._on_device is not self._host:
            self._on_device.copy_(self._host)
        return self._on_device.permute(0, 3, 1, 2)

    def mark_used(self) -> None:
        """Let the next copy to the device wait for all that was launched before this call."""
        if self._stream is not None:
            self._used.record(torch.cuda.current_stream(self._device))


@dataclass(frozen=True, eq=False)
class PredictionTensors:
    """Hold the predictions of a network for N crops, on the device of the network.

    Attributes:
        embeddings: (N, D) float32, not normalised.
        attribute_labels: (N, A) int64, the most likely label of each attribute; A is 0 where the
            network predicts none.
        uncertainty: (N,) float32, `attribute_uncertainty`; NaN where the network predicts no
            attributes.
        timing: time since the batch before.
    """

    embeddings: Tensor
    attribute_labels: Tensor
    uncertainty: Tensor
    timing: LoopTiming


@dataclass(frozen=True, eq=False)
class TimedPredictions:
    """Hold the predictions for a batch in main memory, and the time that they took."""

    predictions: Predictions
    timing: LoopTiming


def download(batches: Iterable[PredictionTensors]) -> Iterator[TimedPredictions]:
    """Yield predictions in main memory, each batch once the next one computes on the device."""
    before: _HostCopy | None = None
    for tensors in batches:
        copy = _HostCopy(tensors)
        if before is not None:
            yield before.wait()
        before = copy
    if before is not None:
        yield before.wait()


class _HostCopy:
    """Copy the predictions for a batch to main memory in the background."""

    def __init__(self, tensors: PredictionTensors) -> None:
        self._timing = tensors.timing
        columns = (tensors.embeddings, tensors.attribute_labels, tensors.uncertainty)
        self._is_pinned = tensors.embeddings.is_cuda
        if self._is_pinned:
            self._columns = [
                torch.empty_like(each, device="cpu", pin_memory=True).copy_(each, non_blocking=True)
                for each in columns
            ]
            self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(tensors.embeddings.device))
        else:
            self._columns = [each.cpu() for each in columns]

    def wait(self) -> TimedPredictions:
        """Return the predictions once they are there, without pinned memory."""
        if self._is_pinned:
            self._copied.synchronize()
            self._columns = [each.clone() for each in self._columns]
        return TimedPredictions(
            Predictions(*(each.numpy() for each in self._columns)), self._timing
        )
