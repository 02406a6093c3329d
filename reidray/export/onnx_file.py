"""Write graphs as ONNX files, and run them with ONNX Runtime."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from torch.export import ExportedProgram

from reidray.errors import UserError
from reidray.export.exported_network import IMAGES
from reidray.export.graphs import first_line, silenced

OPSET = 18
"""Version of the operators, which ONNX Runtime 1.14, TensorRT 8.6 and later ones read."""

MAX_BYTES = 2**31 - 1
"""Most bytes of a file: its format counts them with 32 bits."""

KEPT_IN_FLOAT32 = ("ReduceL2", "ReduceSum", "ReduceSumSquare", "LpNormalization", "Softmax")
"""Operators whose sums half precision cannot hold."""

_MISSING_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")


def build_onnx(
    program: ExportedProgram, output_names: Sequence[str], metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Return a graph as ONNX, with the metadata.

    Raises:
        UserError: ONNX lacks an operator of the graph, or its file would be too large.
    """
    size = sum(value.nbytes for value in program.state_dict.values())
    if size > MAX_BYTES:
        raise UserError(
            f"`format=onnx`: the weights take {size / 1e9:.1f} GB, and a file of ONNX holds 2.1 GB "
            "at most; use `format=torch-export`"
        )
    try:
        with silenced():
            exported: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[IMAGES],
                output_names=list(output_names),
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        missing = _MISSING_OPERATOR.search(str(error))
        reason = f"has no operator for {missing[1]}" if missing else f"({first_line(error)})"
        raise UserError(
            f"`format=onnx`: ONNX {reason}, which the network uses; use `format=torch-export`"
        ) from error
    graph: onnx.ModelProto = exported.model_proto
    _remove_notes(graph)
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value)
    return graph


def _remove_notes(graph: onnx.ModelProto) -> None:
    """Remove what PyTorch notes beside a graph: stack traces with the paths of this machine."""
    parts: list[Any] = [graph]
    for part in [graph.graph, *graph.functions]:
        parts += [part, *part.node, *part.value_info]
    parts += [*graph.graph.initializer, *graph.graph.input, *graph.graph.output]
    for part in parts:
        del part.metadata_props[:]


def convert_to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose weights and layers are float16.

    Input and outputs keep their types. The scaling of the pixels and `KEPT_IN_FLOAT32` compute in
    float32.
    """
    return convert_float_to_float16(
        graph,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FLOAT32],
        node_block_list=_scaling_nodes(graph),
    )


def _scaling_nodes(graph: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes before the first layer: those that scale the pixels."""
    names = []
    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            break
        names.append(node.name)
    return names


class OnnxSession:
    """Run an ONNX file on the CPU.

    Raises:
        UserError: ONNX Runtime cannot run the file.
    """

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise UserError(
                f"ONNX Runtime cannot run the network ({first_line(error)}); use "
                "`format=torch-export`"
            ) from error

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the outputs for images (B, 3, H, W)."""
        outputs: list[NDArray[np.float32]] = self._session.run(None, {IMAGES: images})
        return outputs
