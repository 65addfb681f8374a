"""Splits batches of any size into requests that the daemon accepts."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kekd._models import (
    EnvelopeLike,
    EnvelopeVersion,
    GetResult,
    Push,
    PushResult,
    StorageConfig,
)
from kekd._operations.envelopes import new_idempotency_key, reject_surrogates
from kekd._transport import convert, convert_history
from kekd._transport.operation import SERVICE, Operation
from kekd.errors import EnvelopeError
from kekd_common.limits import MAX_BATCH_ENTRIES, MAX_IMPORTED_VERSIONS
from kekd_common.reasons import Reason
from kekd_proto.v1 import envelope_pb2 as pb

_MAX_BATCH_BYTES: Final = 60_000
"""A request may have 64 KiB; this leaves room for its location."""
_OVERHEAD: Final = 4
"""Bytes of an item's tag and length."""


class BatchGet:
    """The names of one request. Repeats the request for names that the response had no room for."""

    def __init__(self, location: pb.StorageConfig | None) -> None:
        self._location = location
        self.names: list[str] = []
        self._found: dict[str, pb.ListedEnvelope] = {}
        """Not decoded yet."""
        self._store = ""

    def next_operation(self) -> Operation[pb.BatchGetEnvelopesResponse] | None:
        """Returns the call for the names without a result, or None if all have one."""
        names = [name for name in dict.fromkeys(self.names) if name not in self._found]
        if not names:
            return None
        request = pb.BatchGetEnvelopesRequest(config_location=self._location, index_names=names)
        method = f"/{SERVICE}/BatchGetEnvelopes"
        return Operation(method, request, pb.BatchGetEnvelopesResponse, lambda response: response)

    def add_response(self, response: pb.BatchGetEnvelopesResponse) -> None:
        self._store = response.store
        found = list(response.envelopes)
        fitting = [listed for listed in found if not _had_no_room(listed)]
        # Names that had no room are requested again. If none had, their failures are the results.
        self._found |= {listed.index_name: listed for listed in fitting or found}

    def results(self) -> Iterator[GetResult]:
        """Yields results in the order of the names. A repeated name gets an envelope of its own."""
        for name in self.names:
            yield name, convert.parse_listed(self._found[name], self._store)


def _had_no_room(listed: pb.ListedEnvelope) -> bool:
    return listed.HasField("failure") and listed.failure.reason == Reason.RESPONSE_FULL


@reject_surrogates
def get_batches(
    config_location: StorageConfig | None, index_names: Iterable[str]
) -> list[BatchGet]:
    location = convert.make_location(config_location)
    batches: list[BatchGet] = []
    room = 0
    for name in index_names:
        if not isinstance(name, str):
            raise TypeError(f"invalid index_names: expected str, got {type(name).__name__}")
        size = len(name.encode()) + _OVERHEAD
        if size > room or len(batches[-1].names) == MAX_BATCH_ENTRIES:
            batches.append(BatchGet(location))
            room = _MAX_BATCH_BYTES
        batches[-1].names.append(name)
        room -= size
    return batches


def push_batches(
    config_location: StorageConfig | None, pushes: Iterable[Push]
) -> Iterator[Operation[list[PushResult]] | PushResult]:
    """Yields the calls that push all items, and a result for each item that can't be sent.

    They come in the order of the items, which are read lazily.
    """
    location = convert.make_location(config_location)
    batch: list[pb.EnvelopePush] = []
    room = 0
    for push in pushes:
        try:
            message = _push(*push)
        except EnvelopeError as error:
            if batch:
                yield _batch_push(location, batch)
            batch, room = [], 0
            yield push[0], error
            continue
        size = message.ByteSize() + _OVERHEAD
        if size > room or len(batch) == MAX_BATCH_ENTRIES:
            if batch:
                yield _batch_push(location, batch)
            batch, room = [], _MAX_BATCH_BYTES
        batch.append(message)
        room -= size
    if batch:
        yield _batch_push(location, batch)


@reject_surrogates
def _push(index_name: str, blob: EnvelopeLike, if_etag: str | None) -> pb.EnvelopePush:
    message = pb.EnvelopePush()
    convert.set_name(message, index_name=index_name)
    convert.set_texts(message, if_etag=if_etag)
    convert.set_blob(message.blob, blob)
    return message


def _batch_push(
    location: pb.StorageConfig | None, batch: Sequence[pb.EnvelopePush]
) -> Operation[list[PushResult]]:
    return Operation(
        f"/{SERVICE}/BatchPushEnvelopes",
        pb.BatchPushEnvelopesRequest(
            config_location=location, pushes=batch, idempotency_key=new_idempotency_key()
        ),
        pb.BatchPushEnvelopesResponse,
        convert.parse_push_results,
        writes=[push.index_name for push in batch],
    )


@reject_surrogates
def version_imports(
    config_location: StorageConfig | None, index_name: str, versions: Sequence[EnvelopeVersion]
) -> list[Operation[int]]:
    """Returns the calls that import versions, in the order in which to make them."""
    requests: list[pb.ImportEnvelopeVersionsRequest] = []
    room = 0
    for message in convert_history.make_imported_versions(versions):
        size = message.ByteSize() + _OVERHEAD
        if size > room or len(requests[-1].versions) == MAX_IMPORTED_VERSIONS:
            request = pb.ImportEnvelopeVersionsRequest(
                config_location=convert.make_location(config_location)
            )
            convert.set_name(request, index_name=index_name)
            requests.append(request)
            room = _MAX_BATCH_BYTES
        requests[-1].versions.append(message)
        room -= size
    return [_version_import(request) for request in requests]


def _version_import(request: pb.ImportEnvelopeVersionsRequest) -> Operation[int]:
    return Operation(
        f"/{SERVICE}/ImportEnvelopeVersions",
        request,
        pb.ImportEnvelopeVersionsResponse,
        lambda response: int(response.added),
        index_name=request.index_name,
    )
