"""What each method sends and what it makes of the answer, for both kinds of client."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, Generic, ParamSpec, TypeAlias, TypeVar

from google.protobuf.message import Message

from kekd._models import EnvelopeLike, Event, Found, KMSBlob, Push, Pushed, StorageConfig
from kekd._status import DaemonStatus
from kekd._transport import convert
from kekd.errors import EnvelopeError, InvalidArgumentError, UnavailableError
from kekd_common.limits import MAX_BATCH_ENTRIES
from kekd_common.reasons import Reason
from kekd_proto.v1 import daemon_pb2
from kekd_proto.v1 import envelope_pb2 as pb

Result = TypeVar("Result")
Built = TypeVar("Built")
Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")

SERVICE: Final = "kekd.v1.EnvelopeService"
STATUS_SERVICE: Final = "kekd.v1.DaemonService"

_MAX_BATCH_BYTES: Final = 60_000
"""A request has 64 KiB, and a location takes some."""
_OVERHEAD: Final = 4
"""Bytes for tag and length."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Result]):
    """One call: a request, the type of its answer, and what the caller gets of it."""

    method: str
    request: Message = field(repr=False)
    answer: type[Message]
    result: Callable[[Any], Result]
    index_name: str = ""
    """As the daemon is sent it, where the call is about one index."""
    writes: Sequence[str] = ()
    """The indexes whose envelope may be another one once the call has ended, however it ended."""


Page: TypeAlias = Callable[[str], Operation[tuple[list[Item], str]]]
"""From the token of a page to the call that asks for it, which answers with the next token."""


def _of_valid_text(
    build: Callable[Arguments, Built],
) -> Callable[Arguments, Built]:
    """Refuses lone surrogates, which text can hold and UTF-8, and so the wire, can't."""

    @wraps(build)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Built:
        try:
            return build(*args, **kwargs)
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"A text is not valid Unicode: a lone surrogate at character {error.start}.",
                reason=Reason.REQUEST_INVALID,
            ) from None

    return checked


@_of_valid_text
def create(
    config_location: StorageConfig | None, index_name: str, blob: EnvelopeLike
) -> Operation[str]:
    request = pb.CreateEnvelopeRequest(
        config_location=convert.location(config_location), idempotency_key=_new_key()
    )
    convert.set_name(request, index_name=index_name)
    convert.set_blob(request.blob, blob)
    return Operation(
        f"/{SERVICE}/CreateEnvelope",
        request,
        pb.CreateEnvelopeResponse,
        convert.etag,
        index_name=request.index_name,
        writes=(request.index_name,),
    )


@_of_valid_text
def push(
    config_location: StorageConfig | None,
    index_name: str,
    blob: EnvelopeLike,
    if_etag: str | None,
) -> Operation[str]:
    request = pb.PushEnvelopeRequest(
        config_location=convert.location(config_location), idempotency_key=_new_key()
    )
    convert.set_name(request, index_name=index_name)
    convert.set_texts(request, if_etag=if_etag)
    convert.set_blob(request.blob, blob)
    return Operation(
        f"/{SERVICE}/PushEnvelope",
        request,
        pb.PushEnvelopeResponse,
        convert.etag,
        index_name=request.index_name,
        writes=(request.index_name,),
    )


@_of_valid_text
def get(config_location: StorageConfig | None, index_name: str) -> Operation[KMSBlob]:
    request = pb.GetEnvelopeRequest(config_location=convert.location(config_location))
    convert.set_name(request, index_name=index_name)
    return Operation(
        f"/{SERVICE}/GetEnvelope",
        request,
        pb.GetEnvelopeResponse,
        convert.blob,
        index_name=request.index_name,
    )


@_of_valid_text
def delete(
    config_location: StorageConfig | None, index_name: str, if_etag: str | None
) -> Operation[bool]:
    request = pb.DeleteEnvelopeRequest(
        config_location=convert.location(config_location), idempotency_key=_new_key()
    )
    convert.set_name(request, index_name=index_name)
    convert.set_texts(request, if_etag=if_etag)
    return Operation(
        f"/{SERVICE}/DeleteEnvelope",
        request,
        pb.DeleteEnvelopeResponse,
        lambda a: a.existed,
        index_name=request.index_name,
        writes=(request.index_name,),
    )


@_of_valid_text
def page(
    config_location: StorageConfig | None, prefix: str, token: str
) -> Operation[tuple[list[str], str]]:
    return Operation(
        f"/{SERVICE}/ListEnvelopes",
        _page_request(config_location, prefix, token),
        pb.ListEnvelopesResponse,
        lambda a: ([listed.index_name for listed in a.envelopes], a.next_page_token),
    )


@_of_valid_text
def full_page(
    config_location: StorageConfig | None, prefix: str, token: str
) -> Operation[tuple[list[Found], str]]:
    request = _page_request(config_location, prefix, token)
    request.view = pb.ENVELOPE_VIEW_FULL
    return Operation(
        f"/{SERVICE}/ListEnvelopes",
        request,
        pb.ListEnvelopesResponse,
        lambda a: (convert.found(a), a.next_page_token),
    )


class Batch:
    """Names that one request has room for, asked for until each is answered for: an answer has
    less room than a request.
    """

    def __init__(self, location: pb.StorageConfig | None) -> None:
        self._location = location
        self.names: list[str] = []
        self._found: dict[str, KMSBlob | EnvelopeError] = {}

    @property
    def next(self) -> Operation[list[Found]] | None:
        names = [it for it in dict.fromkeys(self.names) if it not in self._found]
        if not names:
            return None
        request = pb.BatchGetEnvelopesRequest(config_location=self._location, index_names=names)
        method = f"/{SERVICE}/BatchGetEnvelopes"
        return Operation(method, request, pb.BatchGetEnvelopesResponse, convert.found)

    def take(self, answer: list[Found]) -> None:
        found = dict(answer)
        answered = {name: it for name, it in found.items() if not _had_no_room(it)}
        self._found |= answered or found

    def results(self) -> Iterator[Found]:
        """In the order of the names. A name that is there twice has an envelope for each."""
        given: set[str] = set()
        for name in self.names:
            found = self._found[name]
            is_repeated = name in given and isinstance(found, KMSBlob)
            yield name, copy(found) if is_repeated else found
            given.add(name)


def _had_no_room(found: KMSBlob | EnvelopeError) -> bool:
    return isinstance(found, EnvelopeError) and found.reason == Reason.ANSWER_FULL


@_of_valid_text
def batches(config_location: StorageConfig | None, index_names: Iterable[str]) -> list[Batch]:
    """As many as it takes, as a request has room for so many names."""
    location = convert.location(config_location)
    made: list[Batch] = []
    room = 0
    for name in index_names:
        if not isinstance(name, str):
            raise TypeError(f"index_names must be of str, not {type(name).__name__}.")
        size = len(name.encode()) + _OVERHEAD
        if size > room or len(made[-1].names) == MAX_BATCH_ENTRIES:
            made.append(Batch(location))
            room = _MAX_BATCH_BYTES
        made[-1].names.append(name)
        room -= size
    return made


def push_batches(
    config_location: StorageConfig | None, pushes: Iterable[Push]
) -> Iterator[Operation[list[Pushed]] | Pushed]:
    """As many as it takes, each made when the one before it is done with. In between, and in their
    order, pushes that can't be sent.
    """
    location = convert.location(config_location)
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


@_of_valid_text
def _push(index_name: str, blob: EnvelopeLike, if_etag: str | None) -> pb.EnvelopePush:
    message = pb.EnvelopePush()
    convert.set_name(message, index_name=index_name)
    convert.set_texts(message, if_etag=if_etag)
    convert.set_blob(message.blob, blob)
    return message


def _batch_push(
    location: pb.StorageConfig | None, batch: Sequence[pb.EnvelopePush]
) -> Operation[list[Pushed]]:
    return Operation(
        f"/{SERVICE}/BatchPushEnvelopes",
        pb.BatchPushEnvelopesRequest(
            config_location=location, pushes=batch, idempotency_key=_new_key()
        ),
        pb.BatchPushEnvelopesResponse,
        convert.pushed,
        writes=[it.index_name for it in batch],
    )


@_of_valid_text
def watch(config_location: StorageConfig | None, prefix: str = "") -> Operation[Event | None]:
    """Its results are events, and None where the daemon has none to tell."""
    request = pb.WatchEnvelopesRequest(config_location=convert.location(config_location))
    convert.set_name(request, prefix=prefix)
    return Operation(
        f"/{SERVICE}/WatchEnvelopes", request, pb.WatchEnvelopesResponse, convert.event
    )


def _new_key() -> str:
    return secrets.token_hex(16)


def _page_request(
    config_location: StorageConfig | None, prefix: str, token: str
) -> pb.ListEnvelopesRequest:
    request = pb.ListEnvelopesRequest(
        config_location=convert.location(config_location), page_token=token
    )
    convert.set_name(request, prefix=prefix)
    return request


def serving(address: str, service: str) -> Operation[None]:
    """Asks the standard health service (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

    Its result is an `UnavailableError` unless the daemon, at `address`, says that it serves.
    """
    # Imported here, as only start-up probes need it.
    from grpc_health.v1 import health_pb2  # noqa: PLC0415

    def result(answer: health_pb2.HealthCheckResponse) -> None:
        if answer.status != answer.SERVING:
            what = "" if service == SERVICE else f" {service}"
            raise UnavailableError(f"kekd at {address} doesn't serve{what} yet.")

    return Operation(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(service=service),
        health_pb2.HealthCheckResponse,
        result,
    )


def status() -> Operation[DaemonStatus]:
    return Operation(
        f"/{STATUS_SERVICE}/GetStatus",
        daemon_pb2.GetStatusRequest(),
        daemon_pb2.GetStatusResponse,
        convert.status,
    )
