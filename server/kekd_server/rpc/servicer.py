"""The gRPC face of the service: check, convert, call, convert."""

from typing import Final

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.rpc import convert
from kekd_server.rpc.errors import Context
from kekd_server.service import EnvelopeService

_PREVIOUS_ATTEMPTS: Final = "grpc-previous-rpc-attempts"
"""Sent by gRPC itself with a call that it retries
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""


class EnvelopeServicer:
    def __init__(self, service: EnvelopeService) -> None:
        self._service = service

    async def CreateEnvelope(
        self, request: pb.CreateEnvelopeRequest, context: Context
    ) -> pb.CreateEnvelopeResponse:
        etag = await self._service.create(
            convert.location(request),
            convert.index_name(request.index_name),
            convert.envelope(request),
            retried=_retried(context),
        )
        return pb.CreateEnvelopeResponse(etag=etag)

    async def PushEnvelope(
        self, request: pb.PushEnvelopeRequest, context: Context
    ) -> pb.PushEnvelopeResponse:
        etag = await self._service.push(
            convert.location(request),
            convert.index_name(request.index_name),
            convert.envelope(request),
            if_etag=convert.if_etag(request),
            retried=_retried(context),
        )
        return pb.PushEnvelopeResponse(etag=etag)

    async def GetEnvelope(
        self, request: pb.GetEnvelopeRequest, _context: Context
    ) -> pb.GetEnvelopeResponse:
        name = convert.index_name(request.index_name)
        return convert.get_response(await self._service.get(convert.location(request), name))

    async def DeleteEnvelope(
        self, request: pb.DeleteEnvelopeRequest, _context: Context
    ) -> pb.DeleteEnvelopeResponse:
        existed = await self._service.delete(
            convert.location(request),
            convert.index_name(request.index_name),
            if_etag=convert.if_etag(request),
        )
        return pb.DeleteEnvelopeResponse(existed=existed)

    async def ListEnvelopes(
        self, request: pb.ListEnvelopesRequest, _context: Context
    ) -> pb.ListEnvelopesResponse:
        page = await self._service.list(
            convert.location(request),
            request.prefix,
            convert.page_size(request),
            request.page_token,
        )
        listed = [pb.ListedEnvelope(index_name=name.value) for name in page.names]
        return pb.ListEnvelopesResponse(envelopes=listed, next_page_token=page.next_token)


def _retried(context: Context) -> bool:
    return any(key == _PREVIOUS_ATTEMPTS for key, _ in context.invocation_metadata() or ())
