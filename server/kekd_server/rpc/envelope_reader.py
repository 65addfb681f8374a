"""Reads envelopes into one response, until it is full."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import EnvelopeNotFoundError, KekdError, ResponseFullError
from kekd_server.model.index_name import IndexName
from kekd_server.model.page_token import PageToken
from kekd_server.rpc import convert
from kekd_server.rpc.errors import log_causes
from kekd_server.service import EnvelopeService, Page
from kekd_server.storage.location import Location
from kekd_server.storage.stored_envelope import StoredEnvelope

MAX_RESPONSE_BYTES: Final = 2**20
"""As much may wait to be read for each call. gRPC's clients accept four times as much."""
_READ_SIZE: Final = 100
"""Envelopes to read at once. Those that don't fit are read in vain."""

Response = TypeVar("Response", pb.BatchGetEnvelopesResponse, pb.ListEnvelopesResponse)


class _RequestedName(NamedTuple):
    sent: str
    name: IndexName | KekdError


class EnvelopeReader:
    """Serves one call."""

    def __init__(
        self, service: EnvelopeService, request: RequestContext, location: Location | None
    ) -> None:
        self._service = service
        self._request = request
        self._location = location

    async def batch(self, names: dict[str, IndexName | KekdError]) -> pb.BatchGetEnvelopesResponse:
        wanted = [_RequestedName(sent, name) for sent, name in names.items()]
        response = pb.BatchGetEnvelopesResponse()
        # At once if the batch is denied as a whole, so that the audit log gets one line.
        is_denied = self._service.denies_all(self._request, self._location, names.values())
        read_size = len(wanted) if is_denied else _READ_SIZE
        for omitted in wanted[await self._fill_response(response, wanted, read_size) :]:
            entry = response.envelopes.add(index_name=omitted.sent)
            convert.fill_entry(entry, ResponseFullError())
        return response

    async def page(self, page: Page, message: pb.ListEnvelopesRequest) -> pb.ListEnvelopesResponse:
        """Omits the envelopes that were deleted since they were listed."""
        wanted = [_RequestedName(name.value, name) for name in page.names]
        response = pb.ListEnvelopesResponse(next_page_token=page.next_token)
        read = await self._fill_response(response, wanted, _READ_SIZE)
        if read < len(wanted):
            token = page.next_token or message.page_token
            response.next_page_token = PageToken.ending_at(
                page.names[read - 1], token, message.prefix
            )
        return response

    async def _fill_response(
        self, response: Response, wanted: Sequence[_RequestedName], read_size: int
    ) -> int:
        """Returns how many fit: all, or at least the first. Reads also if no names are wanted,
        which finds the store's name.
        """
        room, count = MAX_RESPONSE_BYTES, 0
        for first in range(0, max(1, len(wanted)), read_size):
            for sent, result in await self._read(response, wanted[first : first + read_size]):
                if not (isinstance(response, pb.ListEnvelopesResponse) and _is_gone(result)):
                    entry = response.envelopes.add(index_name=sent)
                    convert.fill_entry(entry, result)
                    room -= entry.ByteSize()
                    if room < 0 and count:
                        del response.envelopes[-1]
                        return count
                count += 1
        return count

    async def _read(
        self, response: Response, wanted: Sequence[_RequestedName]
    ) -> Iterator[tuple[str, StoredEnvelope | KekdError]]:
        names = [entry.name for entry in wanted]
        found = await self._service.get_many(self._request, self._location, names)
        response.store = found.store_name
        log_causes(found.results)
        return zip((entry.sent for entry in wanted), found.results, strict=True)


def _is_gone(result: StoredEnvelope | KekdError) -> bool:
    return isinstance(result, EnvelopeNotFoundError)
