"""Export a model: write its file, check it against PyTorch, and publish it."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from reidray.config.jobs.exporting import ExportConfig
from reidray.export.agreement import (
    Agreement,
    RunBatch,
    check_agreement,
    compare,
    compute_outputs,
    prepare_images,
)
from reidray.export.check_crops import CheckCrops, draw_crops, read_crops
from reidray.export.description import describe_graph, describe_model
from reidray.export.exported_network import ExportedNetwork, ExportForm, choose_form
from reidray.export.graphs import run_program, trace_network
from reidray.export.weight_files import (
    check_network_file,
    check_timm_file,
    describe_timm_model,
    find_timm_body,
    find_timm_differences,
    write_weights,
)
from reidray.models import LoadedModel, load_model
from reidray.progress import SHOW_AFTER_SECONDS, Stages
from reidray.storage.location import Location
from reidray.storage.outputs.new_files import new_file
from reidray.storage.staging import temporary_folder

log = logging.getLogger("reidray")

METADATA_FILE = "reidray.json"
"""Name of the metadata within a file of torch.export."""


def run_export(config: ExportConfig) -> dict[str, Any]:
    """Write a model in the format of other programs, and publish it once it agrees with PyTorch.

    Returns:
        The output, its format and size, the names of its outputs, and the agreement.

    Raises:
        UserError: the model or the output is not usable, the format cannot hold the network, or an
            fp32 file gives other outputs than PyTorch.
    """
    with new_file("output", config.output) as staged, Stages() as stages:
        stages.begin(f"reading {config.model}", delay=SHOW_AFTER_SECONDS)
        model = load_model(config.model)
        stages.begin(f"exporting {model.architecture.name} to {config.format}")
        if config.format in ("onnx", "torch-export"):
            found = _export_graph(model, config, staged)
        else:
            found = _export_weights(model, config, staged)
        size = staged.stat().st_size
    return {
        "output": Location(config.output).uri,
        "format": config.format,
        "precision": config.precision,
        "bytes": size,
        **found,
    }


def _export_weights(model: LoadedModel, config: ExportConfig, file: Path) -> dict[str, Any]:
    """Write the weights of a network, or of its backbone, and read them back."""
    if config.format == "timm":
        metadata = describe_model(model) | describe_timm_model(model)
        write_weights(find_timm_body(model).state_dict(), metadata, file)
        check_timm_file(model, file)
        differences = find_timm_differences(model)
        if differences:
            log.warning(
                "timm's model takes the weights and lacks %s: its features differ from those of "
                "this network",
                " and ".join(differences),
            )
        return {"timm_model": metadata["timm_model"], "timm_arguments": metadata["timm_arguments"]}
    write_weights(model.network.state_dict(), describe_model(model), file)
    check_network_file(model, file)
    return {}


def _export_graph(model: LoadedModel, config: ExportConfig, file: Path) -> dict[str, Any]:
    """Write the graph of a network, and compare its outputs with those of PyTorch."""
    form = choose_form(model, config.pixels, config.normalize)
    size = model.architecture.size
    crops = (
        draw_crops(size)
        if config.check_images is None
        else read_crops(config.check_images, size, calibrate=config.precision == "int8")
    )
    network = ExportedNetwork(model, form)
    run = _write_graph(network, model, config, crops, file)
    agreement = _compare(model, network, run, crops)
    check_agreement(agreement, config.precision)
    return {"outputs": list(network.output_names), **agreement.to_json()}


def _write_graph(
    network: ExportedNetwork,
    model: LoadedModel,
    config: ExportConfig,
    crops: CheckCrops,
    file: Path,
) -> RunBatch:
    """Write a graph, and return the function that runs what was written."""
    form = network.form
    metadata = describe_graph(model, form, network.output_names, config.precision)
    program = trace_network(network, model)
    if config.format == "torch-export":
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(metadata)})
        written = torch.export.load(file)  # written by this process, and by nobody else
        return lambda images: run_program(written, images)

    import onnx  # an optional package

    from reidray.export.onnx_file import OnnxSession, build_onnx, convert_to_fp16

    graph = build_onnx(program, network.output_names, metadata)
    if config.precision == "fp16":
        graph = convert_to_fp16(graph)
    elif config.precision == "int8":
        from reidray.export.quantization import quantise

        images = prepare_images(crops.calibration, form, model.network.pixels)
        with temporary_folder() as folder:
            graph = quantise(graph, images, folder)
    onnx.save(graph, file)
    return OnnxSession(file).run


def _compare(
    model: LoadedModel, network: ExportedNetwork, run: RunBatch, crops: CheckCrops
) -> Agreement:
    """Return the agreement of a written graph with the network as it was trained."""
    scaling = model.network.pixels
    plain = ExportedNetwork(model, ExportForm("uint8", network.form.normalized))

    def run_plain(images: NDArray[Any]) -> list[NDArray[Any]]:
        with torch.inference_mode():
            return [output.numpy() for output in plain(torch.from_numpy(images))]

    expected = compute_outputs(
        run_plain, prepare_images(crops.compared, plain.form, scaling), plain.output_names
    )
    found = compute_outputs(
        run, prepare_images(crops.compared, network.form, scaling), network.output_names
    )
    agreement = compare(expected, found)
    log.info(
        "%d crops: the largest difference to PyTorch is %.2g of the largest value",
        agreement.crops,
        agreement.difference,
    )
    return agreement
