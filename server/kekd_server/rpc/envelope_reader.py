"""Reads envelopes into one response, until it is full."""

from collections.abc import Sequence
from typing import Final

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
        sent = list(names)
        # At once if the batch is denied as a whole, so that the audit log gets one line.
        is_denied = self._service.denies_all(self._request, self._location, names.values())
        read_size = len(sent) if is_denied else _READ_SIZE
        count = await self._fill(sent, list(names.values()), read_size, is_listing=False)
        full = ResponseFullError()
        self._parts += (_serialize(omitted, full) for omitted in sent[count:])
        last = pb.BatchGetEnvelopesResponse(store=self._store_name)
        return b"".join((*self._parts, last.SerializeToString()))

    async def page(self, page: Page, message: pb.ListEnvelopesRequest) -> bytes:
        """Omits the envelopes that were deleted since they were listed."""
        sent = [name.value for name in page.names]
        last = pb.ListEnvelopesResponse(next_page_token=page.next_token)
        read = await self._fill(sent, page.names, _READ_SIZE, is_listing=True)
        if read < len(sent):
            token = page.next_token or message.page_token
            last.next_page_token = PageToken.ending_at(page.names[read - 1], token, message.prefix)
        last.store = self._store_name
        return b"".join((*self._parts, last.SerializeToString()))

    async def _fill(
        self,
        sent: Sequence[str],
        names: Sequence[IndexName | KekdError],
        read_size: int,
        *,
        is_listing: bool,
    ) -> int:
        """Returns how many fit: all, or at least the first. Reads also if no names are wanted,
        which finds the store's name.
        """
        room, count = MAX_RESPONSE_BYTES, 0
        for first in range(0, max(1, len(sent)), read_size):
            part = slice(first, first + read_size)
            results = await self._read(names[part])
            entries = self._entries(sent[part], results, is_listing=is_listing)
            if (size := sum(map(len, entries))) > room:
                return count + self._add_fitting(entries, room, must_add=not count)
            self._parts += entries
            room -= size
            count += len(entries)
        return count

    def _add_fitting(self, entries: Sequence[bytes], room: int, *, must_add: bool) -> int:
        """Adds the entries that fit, and at least the first if `must_add`. Returns their number."""
        count = 0
        for entry in entries:
            room -= len(entry)
            if room < 0 and (count or not must_add):
                break
            self._parts.append(entry)
            count += 1
        return count

    def _entries(
        self, sent: Sequence[str], results: Sequence[_Result], *, is_listing: bool
    ) -> list[bytes]:
        return [
            result.content
            if isinstance(result, PreparedEnvelope)
            else self._entry(name, result, is_listing=is_listing)
            for name, result in zip(sent, results, strict=True)
        ]

    def _entry(self, sent: str, result: StoredEnvelope | KekdError, *, is_listing: bool) -> bytes:
        """Returns no bytes for an envelope that a listing omits."""
        if is_listing and isinstance(result, EnvelopeNotFoundError):
            return b""
        entry = _serialize(sent, result)
        if self._ready and isinstance(result, StoredEnvelope):
            self._ready.keep(self._store_name, sent, entry, result.record)
        return entry

    async def _read(self, names: Sequence[IndexName | KekdError]) -> Sequence[_Result]:
        find = self._ready.find if self._ready else nothing_prepared
        found = await self._service.get_many(self._request, self._location, names, find)
        self._store_name = found.store_name
        log_causes(found.results)
        return found.results


def _serialize(sent: str, result: StoredEnvelope | KekdError) -> bytes:
    """Returns a response with one entry, and nothing else. Both responses have the same field."""
    response = pb.BatchGetEnvelopesResponse()
    convert.fill_entry(response.envelopes.add(index_name=sent), result)
    return response.SerializeToString()
