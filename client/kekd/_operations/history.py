"""Restores, protects, lists and destroys versions."""

from collections.abc import Iterable

from kekd._models import DestructionReceipt, EnvelopeVersion, Hold, StorageConfig
from kekd._operations.envelopes import (
    make_operation,
    make_request,
    make_write,
    make_write_request,
    reject_surrogates,
)
from kekd._transport import convert, convert_history
from kekd._transport.operation import Operation
from kekd_proto.v1 import envelope_pb2 as pb


@reject_surrogates
def restore(
    config_location: StorageConfig | None, index_name: str, version_id: str, if_etag: str | None
) -> Operation[str]:
    request = make_write_request(pb.RestoreEnvelopeRequest, config_location, index_name)
    convert.set_texts(request, version_id=version_id, if_etag=if_etag)
    return make_write("RestoreEnvelope", request, pb.RestoreEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def undelete(config_location: StorageConfig | None, index_name: str) -> Operation[str]:
    request = make_write_request(pb.UndeleteEnvelopeRequest, config_location, index_name)
    return make_write("UndeleteEnvelope", request, pb.UndeleteEnvelopeResponse, convert.parse_etag)


@reject_surrogates
def hold(config_location: StorageConfig | None, index_name: str, reason: str) -> Operation[None]:
    request = make_request(pb.HoldEnvelopeRequest, config_location, index_name)
    convert.set_texts(request, reason=reason)
    return make_operation("HoldEnvelope", request, pb.HoldEnvelopeResponse, lambda _: None)


@reject_surrogates
def release(config_location: StorageConfig | None, index_name: str) -> Operation[bool]:
    request = make_request(pb.ReleaseEnvelopeRequest, config_location, index_name)
    return make_operation(
        "ReleaseEnvelope", request, pb.ReleaseEnvelopeResponse, lambda response: response.existed
    )


@reject_surrogates
def find_hold(config_location: StorageConfig | None, index_name: str) -> Operation[Hold | None]:
    request = make_request(pb.ListEnvelopeVersionsRequest, config_location, index_name)
    request.page_size = 1
    return make_operation(
        "ListEnvelopeVersions",
        request,
        pb.ListEnvelopeVersionsResponse,
        convert_history.parse_hold,
    )


@reject_surrogates
def destroy(
    config_location: StorageConfig | None, index_name: str, reason: str, if_etag: str | None
) -> Operation[DestructionReceipt]:
    request = make_write_request(pb.DestroyEnvelopeRequest, config_location, index_name)
    convert.set_texts(request, reason=reason, if_etag=if_etag)
    return make_write(
        "DestroyEnvelope",
        request,
        pb.DestroyEnvelopeResponse,
        lambda response: convert_history.parse_receipt(response, index_name),
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
    """With `page_size` 0, the daemon's maximum applies."""
    request = make_request(pb.ListEnvelopeVersionsRequest, config_location, index_name)
    request.page_token = token
    request.page_size = page_size
    if full:
        request.view = pb.ENVELOPE_VIEW_FULL
    return make_operation(
        "ListEnvelopeVersions",
        request,
        pb.ListEnvelopeVersionsResponse,
        lambda response: (
            convert_history.parse_versions(response, request.index_name),
            response.next_page_token,
        ),
    )
