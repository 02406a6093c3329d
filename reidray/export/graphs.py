"""Trace a network into a graph for any number of images."""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from reidray.errors import UserError
from reidray.export.exported_network import ExportedNetwork, example_images
from reidray.models import LoadedModel

MAX_BATCH = 2**16


def trace_network(network: ExportedNetwork, model: LoadedModel) -> ExportedProgram:
    """Return the graph of a network for 1 to `MAX_BATCH` images.

    Raises:
        UserError: the network depends on values of its images or on their number, as the length of
            a tensor does, so that no graph holds all of it.
    """
    images = example_images(model, network.form)
    try:
        with silenced():
            program = torch.export.export(
                network,
                (images,),
                dynamic_shapes=({0: Dim("batch", max=MAX_BATCH)},),
                strict=False,
            )
    except Exception as error:
        name = model.architecture.name
        if "Constraints violated" in str(error):
            raise UserError(
                f"network {name!r} cannot be exported: its graph would take {len(images)} images "
                "and no other number; use `images.shape[0]` in place of `len(images)` in its code"
            ) from error
        raise UserError(
            f"network {name!r} cannot be exported ({first_line(error)}): a graph holds no branches "
            "that depend on values of tensors"
        ) from error
    _remove_stack_traces(program)
    return program


def _remove_stack_traces(program: ExportedProgram) -> None:
    """Remove the stack trace of each operation, which holds paths of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


@contextmanager
def silenced() -> Iterator[None]:
    """Hide the notes of PyTorch's exporters, which write many lines for each error."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error, without colours of terminals."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def run_program(program: ExportedProgram, images: Any) -> list[Any]:
    """Return the outputs of a graph for images, as NumPy arrays."""
    with torch.inference_mode():
        return [output.numpy() for output in program.module()(torch.from_numpy(images))]
