"""Describe an exported file in its metadata, so that it can be used without reidray."""

import json
from importlib.metadata import version
from typing import Any

from reidray.export.exported_network import CLASS, EMBEDDING, IMAGES, MASK, ExportForm, rgb_values
from reidray.models import LoadedModel


def describe_model(model: LoadedModel) -> dict[str, str]:
    """Return the metadata of a file that holds weights: texts, some of them JSON.

    | key | value |
    |---|---|
    | `model` | id of the model |
    | `network` | the architecture, as in `model.json` |
    | `metric` | distance that compares its embeddings |
    | `preprocessing` | size, channels and scaling of an image |
    | `reidray` | version that wrote the file |
    """
    return {
        "model": model.model_id,
        "network": json.dumps(model.architecture.to_json(), sort_keys=True),
        "metric": model.card.metric,
        "preprocessing": json.dumps(_describe_pixels(model)),
        "reidray": version("reidray"),
    }


def describe_graph(
    model: LoadedModel, form: ExportForm, output_names: tuple[str, ...], precision: str
) -> dict[str, str]:
    """Return the metadata of a file that holds a graph: `describe_model` and its own keys.

    `preprocessing` also says what the input takes, and `outputs` what each output holds.

    Args:
        model: the model.
        form: form of the input and of the embeddings.
        output_names: names of the outputs of the graph.
        precision: fp32, fp16 or int8.
    """
    in_graph = form.pixels == "uint8"
    preprocessing = {
        "input": IMAGES,
        "type": form.pixels,
        **_describe_pixels(model),
        "scaled_in_graph": in_graph,
    }
    attributes = dict(
        zip(model.architecture.schema.columns, model.architecture.schema.attributes, strict=True)
    )
    outputs: dict[str, Any] = {}
    for name in output_names:
        if name == EMBEDDING:
            outputs[name] = {
                "size": model.network.embedding_size,
                "normalized": form.normalized,
                "metric": model.card.metric,
            }
        elif name == CLASS:
            outputs[name] = {"values": model.architecture.num_classes}
        elif name == MASK:
            outputs[name] = {"probability_of": "foreground"}
        else:
            outputs[name] = {"attribute": attributes[name].name, "values": attributes[name].values}
    return {
        **describe_model(model),
        "precision": precision,
        "preprocessing": json.dumps(preprocessing),
        "outputs": json.dumps(outputs),
    }


def _describe_pixels(model: LoadedModel) -> dict[str, Any]:
    """Return how an image becomes what the network takes."""
    pixels = model.network.pixels
    return {
        "height": model.architecture.height,
        "width": model.architecture.width,
        "layout": "NCHW",
        "channels": "RGB",
        "interpolation": "bilinear, antialiased, as PIL.Image.resize after PIL.Image.draft",
        "scaling": "(pixel / 255 - mean) / deviation",
        "mean": rgb_values(pixels.mean),
        "deviation": rgb_values(pixels.deviation),
    }
