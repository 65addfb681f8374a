"""Builds the request of each method, and converts its response, for both kinds of client."""

import os
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from google.protobuf.message import Message

from kekd._models import (
    DestructionReceipt,
    EnvelopeLike,
    EnvelopeVersion,
    Event,
    GetResult,
    Hold,
    KMSBlob,
    StorageConfig,
)
from kekd._transport import convert
from kekd._transport.operation import SERVICE, Operation
from kekd.errors import InvalidArgumentError, UnavailableError
from kekd_common.reasons import Reason
from kekd_proto.v1 import envelope_pb2 as pb

if TYPE_CHECKING:
    from kekd._status import DaemonStatus

Result = TypeVar("Result")
Built = TypeVar("Built")
Arguments = ParamSpec("Arguments")

STATUS_SERVICE: Final = "kekd.v1.DaemonService"


def reject_surrogates(build: Callable[Arguments, Built]) -> Callable[Arguments, Built]:
    """Raises `InvalidArgumentError` for lone surrogates, which UTF-8 can't encode."""

    @wraps(build)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Built:
        try:
            return build(*args, **kwargs)
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"invalid text: not valid Unicode, lone surrogate at character {error.start}",
                reason=Reason.REQUEST_INVALID,
            ) from None

    return checked


@reject_surrogates
def create(
    config_location: StorageConfig | None, index_name: str, blob: EnvelopeLike
) -> Operation[str]:
    request = pb.CreateEnvelopeRequest(
        config_location=convert.make_location(config_location),
        idempotency_key=new_idempotency_key(),
    )
    convert.set_name(request, index_name=index_name)
    convert.set_blob(request.blob, blob)
    return _write("CreateEnvelope", request, pb.CreateEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def push(
    config_location: StorageConfig | None,
    index_name: str,
    blob: EnvelopeLike,
    if_etag: str | None,
) -> Operation[str]:
    request = pb.PushEnvelopeRequest(
        config_location=convert.make_location(config_location),
        idempotency_key=new_idempotency_key(),
    )
    convert.set_name(request, index_name=index_name)
    convert.set_texts(request, if_etag=if_etag)
    convert.set_blob(request.blob, blob)
    return _write("PushEnvelope", request, pb.PushEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def get(
    config_location: StorageConfig | None, index_name: str, version_id: str | None = None
) -> Operation[KMSBlob]:
    request = pb.GetEnvelopeRequest(config_location=convert.make_location(config_location))
    convert.set_name(request, index_name=index_name)
    if version_id is not None:
        convert.set_texts(request, version_id=version_id)
    return Operation(
        f"/{SERVICE}/GetEnvelope",
        request,
        pb.GetEnvelopeResponse,
        convert.parse_get,
        index_name=request.index_name,
    )


@reject_surrogates
def delete(
    config_location: StorageConfig | None, index_name: str, if_etag: str | None
) -> Operation[bool]:
    request = pb.DeleteEnvelopeRequest(
        config_location=convert.make_location(config_location),
        idempotency_key=new_idempotency_key(),
    )
    convert.set_name(request, index_name=index_name)
    convert.set_texts(request, if_etag=if_etag)
    return _write(
        "DeleteEnvelope", request, pb.DeleteEnvelopeResponse, lambda response: response.existed
    )


@reject_surrogates
def restore(
    config_location: StorageConfig | None, index_name: str, version_id: str, if_etag: str | None
) -> Operation[str]:
    request = pb.RestoreEnvelopeRequest(
        config_location=convert.make_location(config_location),
        idempotency_key=new_idempotency_key(),
    )
    convert.set_name(request, index_name=index_name)
    convert.set_texts(request, version_id=version_id, if_etag=if_etag)
    return _write("RestoreEnvelope", request, pb.RestoreEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def undelete(config_location: StorageConfig | None, index_name: str) -> Operation[str]:
    request = pb.UndeleteEnvelopeRequest(
        config_location=convert.make_location(config_location),
        idempotency_key=new_idempotency_key(),
    )
    convert.set_name(request, index_name=index_name)
    return _write("UndeleteEnvelope", request, pb.UndeleteEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def hold(config_location: StorageConfig | None, index_name: str, reason: str) -> Operation[None]:
    request = pb.HoldEnvelopeRequest(config_location=convert.make_location(config_location))
    convert.set_name(request, index_name=index_name)
    convert.set_texts(request, reason=reason)
    return Operation(
        f"/{SERVICE}/HoldEnvelope",
        request,
        pb.HoldEnvelopeResponse,
        lambda _: None,
        index_name=request.index_name,
    )


@reject_surrogates
def release(config_location: StorageConfig | None, index_name: str) -> Operation[bool]:
    request = pb.ReleaseEnvelopeRequest(config_location=convert.make_location(config_location))
    convert.set_name(request, index_name=index_name)
    return Operation(
        f"/{SERVICE}/ReleaseEnvelope",
        request,
        pb.ReleaseEnvelopeResponse,
        lambda response: response.existed,
        index_name=request.index_name,
    )


@reject_surrogates
def find_hold(config_location: StorageConfig | None, index_name: str) -> Operation[Hold | None]:
    request = pb.ListEnvelopeVersionsRequest(
        config_location=convert.make_location(config_location), page_size=1
    )
    convert.set_name(request, index_name=index_name)
    return Operation(
        f"/{SERVICE}/ListEnvelopeVersions",
        request,
        pb.ListEnvelopeVersionsResponse,
        convert.parse_hold,
        index_name=request.index_name,
    )


@reject_surrogates
def destroy(
    config_location: StorageConfig | None, index_name: str, reason: str, if_etag: str | None
) -> Operation[DestructionReceipt]:
    request = pb.DestroyEnvelopeRequest(
        config_location=convert.make_location(config_location),
        idempotency_key=new_idempotency_key(),
    )
    convert.set_name(request, index_name=index_name)
    convert.set_texts(request, reason=reason, if_etag=if_etag)
    return _write(
        "DestroyEnvelope",
        request,
        pb.DestroyEnvelopeResponse,
        lambda response: convert.parse_receipt(response, index_name),
    )


@reject_surrogates
def version_page(
    config_location: StorageConfig | None,
    index_name: str,
    token: str,
    *,
    full: bool,
    page_size: int = 0,
) -> Operation[tuple[Iterable[EnvelopeVersion], str]]:
    """`page_size`: the daemon's maximum if it is 0."""
    request = pb.ListEnvelopeVersionsRequest(
        config_location=convert.make_location(config_location),
        page_token=token,
        page_size=page_size,
    )
    convert.set_name(request, index_name=index_name)
    if full:
        request.view = pb.ENVELOPE_VIEW_FULL
    return Operation(
        f"/{SERVICE}/ListEnvelopeVersions",
        request,
        pb.ListEnvelopeVersionsResponse,
        lambda response: (
            convert.parse_versions(response, request.index_name),
            response.next_page_token,
        ),
        index_name=request.index_name,
    )


@reject_surrogates
def page(
    config_location: StorageConfig | None, prefix: str, token: str, *, show_deleted: bool
) -> Operation[tuple[Iterable[str], str]]:
    request = _page_request(config_location, prefix, token)
    request.show_deleted = show_deleted
    return Operation(
        f"/{SERVICE}/ListEnvelopes",
        request,
        pb.ListEnvelopesResponse,
        lambda response: (
            [listed.index_name for listed in response.envelopes],
            response.next_page_token,
        ),
    )


@reject_surrogates
def full_page(
    config_location: StorageConfig | None, prefix: str, token: str
) -> Operation[tuple[Iterable[GetResult], str]]:
    request = _page_request(config_location, prefix, token)
    request.view = pb.ENVELOPE_VIEW_FULL
    return Operation(
        f"/{SERVICE}/ListEnvelopes",
        request,
        pb.ListEnvelopesResponse,
        lambda response: (convert.parse_page(response), response.next_page_token),
    )


@reject_surrogates
def watch(config_location: StorageConfig | None, prefix: str = "") -> Operation[Event | None]:
    """Its results are events, and None for a heartbeat."""
    request = pb.WatchEnvelopesRequest(config_location=convert.make_location(config_location))
    convert.set_name(request, prefix=prefix)
    return Operation(
        f"/{SERVICE}/WatchEnvelopes", request, pb.WatchEnvelopesResponse, convert.parse_event
    )


def new_idempotency_key() -> str:
    return os.urandom(16).hex()  # as secrets.token_hex, which imports OpenSSL


def _write(
    method: str,
    request: pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.DeleteEnvelopeRequest
    | pb.RestoreEnvelopeRequest
    | pb.UndeleteEnvelopeRequest
    | pb.DestroyEnvelopeRequest,
    response_type: type[Message],
    decode_response: Callable[[Any], Result],
) -> Operation[Result]:
    return Operation(
        f"/{SERVICE}/{method}",
        request,
        response_type,
        decode_response,
        index_name=request.index_name,
        writes=(request.index_name,),
    )


def _page_request(
    config_location: StorageConfig | None, prefix: str, token: str
) -> pb.ListEnvelopesRequest:
    request = pb.ListEnvelopesRequest(
        config_location=convert.make_location(config_location), page_token=token
    )
    convert.set_name(request, prefix=prefix)
    return request


def serving(address: str, service: str) -> Operation[None]:
    """Calls the standard health service (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

    Converting the response raises `UnavailableError` unless the daemon at `address` serves.
    """
    # Imported here because only start-up probes need it.
    from grpc_health.v1 import health_pb2  # noqa: PLC0415

    def require_serving(response: health_pb2.HealthCheckResponse) -> None:
        if response.status != response.SERVING:
            name = "" if service == SERVICE else f" {service}"
            raise UnavailableError(f"kekd at {address} doesn't serve{name} yet; retry later")

    return Operation(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(service=service),
        health_pb2.HealthCheckResponse,
        require_serving,
    )


def status() -> "Operation[DaemonStatus]":
    # Imported here because most programs never ask for the status.
    from kekd_proto.v1 import daemon_pb2  # noqa: PLC0415

    return Operation(
        f"/{STATUS_SERVICE}/GetStatus",
        daemon_pb2.GetStatusRequest(),
        daemon_pb2.GetStatusResponse,
        convert.parse_status,
    )
