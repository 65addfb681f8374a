"""The operations on the envelope of an index, and listings."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

from google.protobuf.message import Message

from kekd._models import EnvelopeLike, GetResult, KMSBlob, StorageConfig
from kekd._transport import convert
from kekd._transport.operation import SERVICE, Operation
from kekd.errors import InvalidArgumentError
from kekd_common.reasons import Reason
from kekd_proto.v1 import envelope_pb2 as pb

Result = TypeVar("Result")
Built = TypeVar("Built")
Arguments = ParamSpec("Arguments")
WriteRequest = TypeVar(
    "WriteRequest",
    pb.CreateEnvelopeRequest,
    pb.PushEnvelopeRequest,
    pb.DeleteEnvelopeRequest,
    pb.RestoreEnvelopeRequest,
    pb.UndeleteEnvelopeRequest,
    pb.DestroyEnvelopeRequest,
)
Request = TypeVar("Request", bound=Message)
IndexRequest: TypeAlias = (
    pb.GetEnvelopeRequest
    | pb.ListEnvelopeVersionsRequest
    | pb.HoldEnvelopeRequest
    | pb.ReleaseEnvelopeRequest
    | pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.DeleteEnvelopeRequest
    | pb.RestoreEnvelopeRequest
    | pb.UndeleteEnvelopeRequest
    | pb.DestroyEnvelopeRequest
)
"""A request about one index."""


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
    request = make_write_request(pb.CreateEnvelopeRequest, config_location, index_name)
    convert.set_blob(request.blob, blob)
    return make_write("CreateEnvelope", request, pb.CreateEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def push(
    config_location: StorageConfig | None,
    index_name: str,
    blob: EnvelopeLike,
    if_etag: str | None,
) -> Operation[str]:
    request = make_write_request(pb.PushEnvelopeRequest, config_location, index_name)
    convert.set_texts(request, if_etag=if_etag)
    convert.set_blob(request.blob, blob)
    return make_write("PushEnvelope", request, pb.PushEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def get(
    config_location: StorageConfig | None, index_name: str, version_id: str | None = None
) -> Operation[KMSBlob]:
    request = make_request(pb.GetEnvelopeRequest, config_location, index_name)
    if version_id is not None:
        convert.set_texts(request, version_id=version_id)
    return make_operation("GetEnvelope", request, pb.GetEnvelopeResponse, convert.parse_get)


@reject_surrogates
def delete(
    config_location: StorageConfig | None, index_name: str, if_etag: str | None
) -> Operation[bool]:
    request = make_write_request(pb.DeleteEnvelopeRequest, config_location, index_name)
    convert.set_texts(request, if_etag=if_etag)
    return make_write(
        "DeleteEnvelope", request, pb.DeleteEnvelopeResponse, lambda response: response.existed
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


def new_idempotency_key() -> str:
    return os.urandom(16).hex()  # as secrets.token_hex, which imports OpenSSL


def make_request(
    request_type: type[Request], config_location: StorageConfig | None, index_name: str
) -> Request:
    """Makes a request about one index."""
    request = request_type(config_location=convert.make_location(config_location))
    convert.set_name(request, index_name=index_name)
    return request


def make_write_request(
    request_type: type[WriteRequest], config_location: StorageConfig | None, index_name: str
) -> WriteRequest:
    request = make_request(request_type, config_location, index_name)
    request.idempotency_key = new_idempotency_key()
    return request


def make_operation(
    method: str,
    request: IndexRequest,
    response_type: type[Message],
    decode_response: Callable[[Any], Result],
    *,
    writes: Sequence[str] = (),
) -> Operation[Result]:
    return Operation(
        f"/{SERVICE}/{method}",
        request,
        response_type,
        decode_response,
        index_name=request.index_name,
        writes=writes,
    )


def make_write(
    method: str,
    request: WriteRequest,
    response_type: type[Message],
    decode_response: Callable[[Any], Result],
) -> Operation[Result]:
    writes = (request.index_name,)
    return make_operation(method, request, response_type, decode_response, writes=writes)


def _page_request(
    config_location: StorageConfig | None, prefix: str, token: str
) -> pb.ListEnvelopesRequest:
    request = pb.ListEnvelopesRequest(
        config_location=convert.make_location(config_location), page_token=token
    )
    convert.set_name(request, prefix=prefix)
    return request
