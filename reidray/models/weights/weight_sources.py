"""Read weights from a file, a model directory or a hub, as safetensors."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from reidray.config.sections.weight_names import NAMED_WEIGHTS, hub_repository
from reidray.errors import UserError
from reidray.models.model_files import (
    check_weights_hash,
    read_description,
    read_model_files,
)
from reidray.models.weights.pickle_process import ConversionError, convert_pickle
from reidray.storage.input_checks import DESCRIPTION_FILE, WEIGHTS_FILE, check_weights
from reidray.storage.inputs.weight_headers import (
    NO_TENSORS,
    SUFFIX,
    check_weight_header,
    looks_like_safetensors,
)
from reidray.storage.location import Location
from reidray.storage.object_store import describe_error

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files of a repository on the hub that hold its weights, the preferred one first."""

MAX_BYTES = 32 * 1024**3
"""The most bytes of a file: eight times the largest network, for the state of an optimiser."""


@dataclass(frozen=True)
class WeightSource:
    """Hold weights to start from. They can be sent to other machines, and hold no code.

    Attributes:
        name: the value of `network.weights`, or the URI that it stands for.
        kind: `safetensors`, `torch.save`, `model directory`, or `imagenet`.
        data: the weights as safetensors.
    """

    name: str
    kind: str
    data: bytes

    def tensors(self) -> dict[str, Tensor]:
        """Decode the weights by name, in float32 where they are no whole numbers.

        Raises:
            UserError: the header does not fit the length, values overlap, or there is no tensor.
        """
        try:
            tensors = {
                name: tensor.float() if tensor.is_floating_point() else tensor
                for name, tensor in load(self.data).items()
            }
        except (
            SafetensorError,
            ArithmeticError,
            TypeError,
            ValueError,
            KeyError,
            RuntimeError,
        ) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"`network.weights` {self.name}: cannot be read as safetensors ({reason}): copy it "
                "again"
            ) from error
        if not tensors:
            raise UserError(f"`network.weights` {self.name}: {NO_TENSORS}")
        return tensors


def read_weights(weights: str) -> WeightSource:
    """Read weights from where a value of `network.weights` says.

    A pickle is converted by a process of its own, so that this one never unpickles.

    Args:
        weights: a name on a hub (`hf-hub:org/name`, `timm/name`), or a local path or `s3://`
            address of a file of safetensors or of `torch.save`, or of a model directory.

    Raises:
        UserError: the weights do not exist, cannot be read, or are no weights. The message has one
            line. Damaged values are found where `WeightSource.tensors` decodes them.
    """
    if weights in NAMED_WEIGHTS:
        raise ValueError(f"{weights!r} names no file")
    repository = hub_repository(weights)
    if repository is not None:
        downloaded = Location(str(_download(repository)), follow_links=True)
        check_weight_header("network.weights", downloaded)
        return _read_file(downloaded, name=weights)
    check_weights("network.weights", weights)
    location = Location(weights, follow_links=True)
    if location.is_dir():
        return _read_model(location)
    return _read_file(location, name=location.uri)


def _read_model(folder: Location) -> WeightSource:
    """Read the weights of a model directory, of whatever network.

    Raises:
        UserError: the folder is no model directory, or is damaged.
    """
    files = read_model_files(folder)
    description = read_description(folder, files[DESCRIPTION_FILE])
    data = files[WEIGHTS_FILE]
    check_weights_hash(folder, data, description.get("weights_sha256"))
    return WeightSource(folder.uri, "model directory", data)


def _read_file(location: Location, name: str) -> WeightSource:
    """Read a file of safetensors or of `torch.save`.

    The first bytes tell them apart, as Torchreid's files have names such as `model.pth.tar-60`.
    What is named safetensors is never taken for a pickle.

    Raises:
        UserError: the file cannot be read, or holds no weights.
    """
    try:
        data = location.parent.read_bytes(location.name, MAX_BYTES)
    except OSError as error:
        raise UserError(
            f"`network.weights` {name}: cannot be read ({describe_error(error)}); "
            "check its permissions, or copy it again"
        ) from error
    if location.name.endswith(SUFFIX) or looks_like_safetensors(data, len(data)):
        return WeightSource(name, "safetensors", data)
    try:
        return WeightSource(name, "torch.save", convert_pickle(data))
    except ConversionError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"`network.weights` {name}: is refused, because {reason}") from error


def _download(repository: str) -> Path:
    """Download the weights of a repository on the Hugging Face hub into its cache on this machine.

    Raises:
        UserError: there is no network, no such repository, or no weights in it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    # One line tells that there is no network, and not one for each try.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    name, _, revision = repository.partition("@")
    for file in HUB_FILES:
        try:
            return Path(hf_hub_download(name, file, revision=revision or None))
        except Exception as error:  # of the hub, of HTTP, or of the name
            is_absent = isinstance(error, EntryNotFoundError)
            if is_absent and not isinstance(error, LocalEntryNotFoundError):
                continue
            raise UserError(
                f"`network.weights` hf-hub:{repository}: could not be downloaded "
                f"({type(error).__name__}): check the name; it needs a network connection, or give "
                "a local file"
            ) from error
    raise UserError(
        f"`network.weights` hf-hub:{repository}: holds none of {', '.join(HUB_FILES)}: download "
        "its weights, and give the file"
    )
