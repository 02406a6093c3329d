"""Connect the processes of a training at the addresses of their nodes alone.

The set-up of Ray Train lets PyTorch listen on every interface of a machine, without a token. This
module imports no PyTorch on its own, because Ray Train's controller loads it.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import ray
from ray.train.backend import Backend, BackendConfig
from ray.train.collective import broadcast_from_rank_zero

if TYPE_CHECKING:
    from reidray.training.distributed_context import DistributedContext

EXCHANGE_TIMEOUT = timedelta(minutes=30)
"""Time after which an exchange of the processes fails. They wait for rank 0 while it waits for the
upload of a checkpoint."""


class VisibleGpus(Backend):  # type: ignore[misc]
    """Show each training process all GPUs of the training on its node, which NCCL needs."""

    share_cuda_visible_devices = True


class VisibleGpusConfig(BackendConfig):  # type: ignore[misc]
    """Choose `VisibleGpus` as the backend of a Ray trainer."""

    @property
    def backend_cls(self) -> type[VisibleGpus]:
        """Return the class of the backend."""
        return VisibleGpus


@contextmanager
def process_group(context: "DistributedContext") -> Iterator[None]:
    """Connect this training process with the others while a block runs, by NCCL or Gloo.

    Rank 0 serves the store in which the processes find each other, at the address of its node. A
    single process listens nowhere. After an error, Ray ends the processes, which may wait for each
    other.
    """
    if context.world_size == 1:
        yield
        return
    from torch import distributed

    listener = _listen(ray.util.get_node_ip_address()) if context.is_main else None
    host, port = broadcast_from_rank_zero(listener.getsockname()[:2] if listener else None)
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        host,
        port,
        is_master=context.is_main,
        master_listen_fd=listener.detach() if listener else None,
        wait_for_workers=False,
        timeout=EXCHANGE_TIMEOUT,
    )
    distributed.init_process_group(
        "nccl" if context.device.type == "cuda" else "gloo",
        store=store,
        rank=context.rank,
        world_size=context.world_size,
        timeout=EXCHANGE_TIMEOUT,
    )
    yield
    distributed.destroy_process_group()


def _listen(address: str) -> socket.socket:
    """Return a socket that listens at an address of this machine, on a free port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family)
