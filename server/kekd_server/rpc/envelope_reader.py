"""Reads envelopes into one response, until it is full."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import EnvelopeNotFoundError, KekdError, ResponseFullError
from kekd_server.model.index_name import IndexName
from kekd_server.model.page_token import PageToken
from kekd_server.rpc import convert
from kekd_server.rpc.errors import log_causes
from kekd_server.rpc.ready_answers import ReadyEntries
from kekd_server.service import EnvelopeService, Page
from kekd_server.storage.location import Location
from kekd_server.storage.stored_envelope import (
    PreparedEnvelope,
    StoredEnvelope,
    nothing_prepared,
)

MAX_RESPONSE_BYTES: Final = 2**20
"""As much may wait to be read for each call. gRPC's clients accept four times as much."""
_READ_SIZE: Final = 100
"""Envelopes to read at once. Those that don't fit are read in vain."""


class _RequestedName(NamedTuple):
    sent: str
    name: IndexName | KekdError


_Result = StoredEnvelope | PreparedEnvelope | KekdError


class EnvelopeReader:
    """Serves one call. Assembles the response from serialized entries: the concatenation of
    serialized messages is the serialization of the message with the fields of all.
    """

    def __init__(
        self,
        service: EnvelopeService,
        request: RequestContext,
        location: Location | None,
        ready: ReadyEntries | None,
    ) -> None:
        self._service = service
        self._request = request
        self._location = location
        self._ready = ready
        self._store_name = ""
        self._parts: list[bytes] = []

    async def batch(self, names: dict[str, IndexName | KekdError]) -> bytes:
        wanted = [_RequestedName(sent, name) for sent, name in names.items()]
        # At once if the batch is denied as a whole, so that the audit log gets one line.
        is_denied = self._service.denies_all(self._request, self._location, names.values())
        read_size = len(wanted) if is_denied else _READ_SIZE
        count = await self._fill(wanted, read_size, is_listing=False)
        full = ResponseFullError()
        self._parts += (_serialize(omitted.sent, full) for omitted in wanted[count:])
        last = pb.BatchGetEnvelopesResponse(store=self._store_name)
        return b"".join((*self._parts, last.SerializeToString()))

    async def page(self, page: Page, message: pb.ListEnvelopesRequest) -> bytes:
        """Omits the envelopes that were deleted since they were listed."""
        wanted = [_RequestedName(name.value, name) for name in page.names]
        last = pb.ListEnvelopesResponse(next_page_token=page.next_token)
        read = await self._fill(wanted, _READ_SIZE, is_listing=True)
        if read < len(wanted):
            token = page.next_token or message.page_token
            last.next_page_token = PageToken.ending_at(page.names[read - 1], token, message.prefix)
        last.store = self._store_name
        return b"".join((*self._parts, last.SerializeToString()))

    async def _fill(
        self, wanted: Sequence[_RequestedName], read_size: int, *, is_listing: bool
    ) -> int:
        """Returns how many fit: all, or at least the first. Reads also if no names are wanted,
        which finds the store's name.
        """
        room, count = MAX_RESPONSE_BYTES, 0
        for first in range(0, max(1, len(wanted)), read_size):
            for sent, result in await self._read(wanted[first : first + read_size]):
                if not (is_listing and isinstance(result, EnvelopeNotFoundError)):
                    entry = self._entry(sent, result)
                    room -= len(entry)
                    if room < 0 and count:
                        return count
                    self._parts.append(entry)
                count += 1
        return count

    def _entry(self, sent: str, result: _Result) -> bytes:
        if isinstance(result, PreparedEnvelope):
            return result.content
        entry = _serialize(sent, result)
        if self._ready and isinstance(result, StoredEnvelope):
            self._ready.keep(self._store_name, sent, PreparedEnvelope(entry, result.record))
        return entry

    async def _read(self, wanted: Sequence[_RequestedName]) -> Iterator[tuple[str, _Result]]:
        names = [entry.name for entry in wanted]
        find = self._ready.find if self._ready else nothing_prepared
        found = await self._service.get_many(self._request, self._location, names, find)
        self._store_name = found.store_name
        log_causes(found.results)
        return zip((entry.sent for entry in wanted), found.results, strict=True)


def _serialize(sent: str, result: StoredEnvelope | KekdError) -> bytes:
    """Returns a response with one entry, and nothing else. Both responses have the same field."""
    response = pb.BatchGetEnvelopesResponse()
    convert.fill_entry(response.envelopes.add(index_name=sent), result)
    return response.SerializeToString()
