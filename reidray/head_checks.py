"""Ask the head of a Ray cluster whether this process may join it.

Ray itself tries for 20 to 40 seconds to join a head that refuses its token, and prints warnings
meanwhile.
"""

import json
from dataclasses import dataclass

import grpc
from ray._common.network_utils import build_address, parse_address
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._private.services import canonicalize_bootstrap_address
from ray._private.utils import check_version_info, compute_version_info
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from reidray.errors import UserError

ANSWER_SECONDS = 10.0
"""Seconds that the head has for an answer."""


class TokenRefusedError(Exception):
    """Report that the head asks for another token than this process has."""


@dataclass(frozen=True)
class HeadAddress:
    """Name the place at which Ray joins a head.

    Attributes:
        host: address or name of the machine.
        port: port of the head.
    """

    host: str
    port: int

    def __str__(self) -> str:
        text: str = build_address(self.host, self.port)
        return text


def find_head(address: str) -> HeadAddress:
    """Return the place at which Ray joins the head that an address names.

    `auto` is the head in RAY_ADDRESS, or one on this machine. Unless Ray is told to stay on
    loopback, it replaces a loopback address by another one of this machine.

    Args:
        address: HOST:PORT, or `auto`.

    Raises:
        OSError: no Ray runs on this machine.
        ValueError: the address has another form.
    """
    try:
        found = canonicalize_bootstrap_address(address)
    except ConnectionError:
        raise OSError("no Ray runs on this machine") from None
    except ValueError:
        found = None
    parts = parse_address(found) if found else None
    if parts is None or not parts[1].isdecimal():
        raise ValueError("expected HOST:PORT, `auto` or `local`")
    return HeadAddress(parts[0], int(parts[1]))


def check_head(address: str) -> None:
    """Check that a head lets this process join: its token, and the versions of Ray and Python.

    Args:
        address: HOST:PORT of the head. The token is that of Ray's settings in the environment.

    Raises:
        TokenRefusedError: the head refuses the token, or asks for one and this process has none.
        UserError: the head runs another version of Ray or Python.
        OSError: no head of a Ray cluster answers at the address.
    """
    versions = _read_versions(address)
    if versions is None:  # a head that starts just now
        return
    try:
        check_version_info(versions, "this machine")
    except RuntimeError:
        own_ray, own_python = compute_version_info()
        raise UserError(
            f"the head at {address} runs Ray {versions['ray_version']} with Python "
            f"{versions['python_version']}, and this process Ray {own_ray} with Python "
            f"{own_python}: install the same versions on both, as `uv sync` of one revision does"
        ) from None


def _read_versions(address: str) -> dict[str, str] | None:
    request = gcs_service_pb2.InternalKVGetRequest(
        key=CLUSTER_METADATA_KEY, namespace=KV_NAMESPACE_CLUSTER
    )
    channel = init_grpc_channel(address)
    try:
        stub = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)
        answer = stub.InternalKVGet(request, timeout=ANSWER_SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise TokenRefusedError from None
        raise OSError(f"no Ray answers there: {error.code().name.lower()}") from error
    finally:
        channel.close()
    versions: dict[str, str] | None = json.loads(answer.value) if answer.value else None
    return versions
