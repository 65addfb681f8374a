"""What each method sends and what it makes of the answer, for both kinds of client."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from functools import wraps
from typing import Any, Final, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar

from google.protobuf.message import Message

from kekd._status import CertificateStatus, DaemonStatus, StoreStatus
from kekd._types import Change, KMSBlob, Resync, StorageConfig
from kekd.errors import (
    BY_REASON,
    EnvelopeError,
    InvalidArgumentError,
    InvalidEnvelopeError,
    InvalidIndexNameError,
    UnavailableError,
)
from kekd_proto.reasons import Reason
from kekd_proto.v1 import daemon_pb2
from kekd_proto.v1 import envelope_pb2 as pb

Result = TypeVar("Result")
Built = TypeVar("Built")
Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")


class EnvelopeLike(Protocol):
    """Any object with these attributes is an envelope: a `kekd.KMSBlob`, a `cyborgdb_core.KMSBlob`.

    `key_arn` and `binding` are taken where there are such.
    """

    kms_name: str
    provider: str
    key_id: str
    region: str
    wrapped_kek: bytes
    version: int
    created_at: int


SERVICE: Final = "kekd.v1.EnvelopeService"
STATUS_SERVICE: Final = "kekd.v1.DaemonService"

Found: TypeAlias = tuple[str, KMSBlob | EnvelopeError]
"""An index name, and its envelope or what a get of it fails with."""

Push: TypeAlias = tuple[str, EnvelopeLike, str | None]
"""An index name, its envelope, and the etag of the one that it may replace, or None for any."""

Pushed: TypeAlias = tuple[str, str | EnvelopeError]
"""An index name, and the etag of its new envelope or what a push of it fails with."""

Event: TypeAlias = Change | Resync
"""What a watch tells."""

_MAX_BATCH: Final = 1000
_MAX_BATCH_BYTES: Final = 60_000
"""A request has 64 KiB, and a location takes some."""
_OVERHEAD: Final = 4
"""Bytes for tag and length."""

_KINDS: Final[dict[int, Literal["created", "pushed", "deleted"]]] = {
    pb.Change.KIND_CREATED: "created",
    pb.Change.KIND_DELETED: "deleted",
}

_FIELDS: Final = tuple(field.name for field in pb.KMSBlob.DESCRIPTOR.fields)


@dataclass(frozen=True, slots=True)
class Operation(Generic[Result]):
    """One call: a request, the type of its answer, and what the caller gets of it."""

    method: str
    request: Message = field(repr=False)
    answer: type[Message]
    result: Callable[[Any], Result]
    wait_for_ready: bool = False
    """Whether to wait for a connection rather than to retry. A write of which one wins must not be
    taken for a repeated one just because there was nobody to connect to at first."""
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
    request = pb.CreateEnvelopeRequest(config_location=_location(config_location))
    _name(request, index_name=index_name)
    _fill(request.blob, blob)
    return Operation(
        f"/{SERVICE}/CreateEnvelope",
        request,
        pb.CreateEnvelopeResponse,
        _etag,
        wait_for_ready=True,
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
    request = pb.PushEnvelopeRequest(config_location=_location(config_location))
    _name(request, index_name=index_name)
    _set(request, if_etag=if_etag)
    _fill(request.blob, blob)
    return Operation(
        f"/{SERVICE}/PushEnvelope",
        request,
        pb.PushEnvelopeResponse,
        _etag,
        wait_for_ready=if_etag is not None,
        index_name=request.index_name,
        writes=(request.index_name,),
    )


@_of_valid_text
def get(config_location: StorageConfig | None, index_name: str) -> Operation[KMSBlob]:
    request = pb.GetEnvelopeRequest(config_location=_location(config_location))
    _name(request, index_name=index_name)
    return Operation(
        f"/{SERVICE}/GetEnvelope",
        request,
        pb.GetEnvelopeResponse,
        _blob,
        index_name=request.index_name,
    )


@_of_valid_text
def delete(
    config_location: StorageConfig | None, index_name: str, if_etag: str | None
) -> Operation[bool]:
    request = pb.DeleteEnvelopeRequest(config_location=_location(config_location))
    _name(request, index_name=index_name)
    _set(request, if_etag=if_etag)
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
    request.full = True
    return Operation(
        f"/{SERVICE}/ListEnvelopes",
        request,
        pb.ListEnvelopesResponse,
        lambda a: (_found(a), a.next_page_token),
    )


@_of_valid_text
def batches(
    config_location: StorageConfig | None, index_names: Iterable[str]
) -> list[Operation[list[Found]]]:
    """As many as it takes, as a request has room for so many names."""
    requests: list[pb.BatchGetEnvelopesRequest] = []
    room = 0
    for name in index_names:
        if not isinstance(name, str):
            raise TypeError(f"index_names must be of str, not {type(name).__name__}.")
        size = len(name.encode()) + _OVERHEAD
        if size > room or len(requests[-1].index_names) == _MAX_BATCH:
            requests.append(pb.BatchGetEnvelopesRequest(config_location=_location(config_location)))
            room = _MAX_BATCH_BYTES
        requests[-1].index_names.append(name)
        room -= size
    return [
        Operation(f"/{SERVICE}/BatchGetEnvelopes", it, pb.BatchGetEnvelopesResponse, _found)
        for it in requests
    ]


def push_batches(
    config_location: StorageConfig | None, pushes: Iterable[Push]
) -> Iterator[Operation[list[Pushed]] | Pushed]:
    """As many as it takes, each made when the one before it is done with. In between, and in their
    order, pushes that can't be sent.
    """
    location = _location(config_location)
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
        if size > room or len(batch) == _MAX_BATCH:
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
    _name(message, index_name=index_name)
    _set(message, if_etag=if_etag)
    _fill(message.blob, blob)
    return message


def _batch_push(
    location: pb.StorageConfig | None, batch: Sequence[pb.EnvelopePush]
) -> Operation[list[Pushed]]:
    return Operation(
        f"/{SERVICE}/BatchPushEnvelopes",
        pb.BatchPushEnvelopesRequest(config_location=location, pushes=batch),
        pb.BatchPushEnvelopesResponse,
        _pushed,
        wait_for_ready=any(it.HasField("if_etag") for it in batch),
        writes=[it.index_name for it in batch],
    )


@_of_valid_text
def watch(config_location: StorageConfig | None, prefix: str = "") -> Operation[Event | None]:
    """Its results are events, and None where the daemon has none to tell."""
    request = pb.WatchEnvelopesRequest(config_location=_location(config_location))
    _name(request, prefix=prefix)
    return Operation(f"/{SERVICE}/WatchEnvelopes", request, pb.WatchEnvelopesResponse, _event)


def _page_request(
    config_location: StorageConfig | None, prefix: str, token: str
) -> pb.ListEnvelopesRequest:
    request = pb.ListEnvelopesRequest(config_location=_location(config_location), page_token=token)
    _name(request, prefix=prefix)
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
        _status,
    )


def _location(config: StorageConfig | None) -> pb.StorageConfig | None:
    if config is None:
        return None
    if not isinstance(config, StorageConfig):
        raise TypeError(
            f"config_location must be a kekd.StorageConfig or None, not {type(config).__name__}."
        )
    location = pb.StorageConfig()
    match config.kind:
        case "memory":
            location.memory.SetInParent()
        case "disk":
            _set(location.disk, path=config.path)
        case _:
            _set(
                location.s3,
                bucket=config.bucket,
                prefix=config.prefix,
                region=config.region,
                endpoint=config.endpoint,
            )
    return location


def _name(request: Any, **name: str) -> None:
    try:
        _set(request, **name)
    except UnicodeEncodeError as error:
        (field,) = name
        raise InvalidIndexNameError(
            f"{field} is not valid Unicode: a lone surrogate at character {error.start}.",
            reason=Reason.INDEX_NAME_INVALID,
        ) from None


def _set(message: Any, **texts: str | None) -> None:
    """Sets the fields, or raises a TypeError that names the wrong one, as protobuf's own doesn't.

    None leaves out a field that is optional. Bytes that are UTF-8 count as text, as they do to
    cyborgdb_core.
    """
    for name, text in texts.items():
        if text is None and message.DESCRIPTOR.fields_by_name[name].has_presence:
            continue
        try:
            setattr(message, name, text)
        except (TypeError, UnicodeDecodeError):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}.") from None


def _fill(message: Any, blob: EnvelopeLike) -> None:
    """Copies the attributes, and names each that the wire can't carry. Not their values, and not
    the errors that hold them: one might be a wrapped KEK.
    """
    missing = [name for name in EnvelopeLike.__annotations__ if not hasattr(blob, name)]
    if missing:
        given = type(blob).__name__
        raise TypeError(
            f"blob must have the attributes of a KMSBlob: {given} lacks {', '.join(missing)}."
        )
    problems = []
    for name in _FIELDS:
        try:
            setattr(message, name, getattr(blob, name, ""))
        except (TypeError, ValueError):
            problems.append(f"{name} has a value of the wrong type or range")
    if problems:
        raise InvalidEnvelopeError(
            f"The envelope is not valid: {'; '.join(problems)}.", reason=Reason.ENVELOPE_INVALID
        )


def _etag(answer: pb.CreateEnvelopeResponse | pb.PushEnvelopeResponse) -> str:
    return answer.etag


def _blob(answer: pb.GetEnvelopeResponse) -> KMSBlob:
    return _read(answer.blob, answer.etag, answer.store)


def _found(answer: pb.BatchGetEnvelopesResponse | pb.ListEnvelopesResponse) -> list[Found]:
    return [
        (listed.index_name, _failure(listed, answer.store))
        if listed.HasField("failure")
        else (listed.index_name, _read(listed.blob, listed.etag, answer.store))
        for listed in answer.envelopes
    ]


def _pushed(answer: pb.BatchPushEnvelopesResponse) -> list[Pushed]:
    return [
        (it.index_name, _failure(it, answer.store) if it.HasField("failure") else it.etag)
        for it in answer.envelopes
    ]


def _event(answer: pb.WatchEnvelopesResponse) -> Event | None:
    match answer.WhichOneof("event"):
        case "watching" | "resync":
            return Resync()
        case "change":
            told = answer.change
            return Change(told.index_name, _KINDS.get(told.kind, "pushed"), told.etag)
        case _:  # a heartbeat, or what a newer daemon tells
            return None


def _status(answer: daemon_pb2.GetStatusResponse) -> DaemonStatus:
    return DaemonStatus(
        version=answer.version,
        started_at=answer.started_at.ToDatetime(UTC),
        now=answer.now.ToDatetime(UTC),
        engine=answer.engine,
        workers=answer.workers,
        stores=tuple(
            StoreStatus(it.name, it.is_default, it.healthy, it.trouble) for it in answer.stores
        ),
        certificates=tuple(
            CertificateStatus(it.file, it.expires_at.ToDatetime(UTC)) for it in answer.certificates
        ),
    )


def _read(message: pb.KMSBlob, etag: str, store: str) -> KMSBlob:
    blob = KMSBlob(**{name: getattr(message, name) for name in _FIELDS})
    blob.etag, blob.store = etag, store
    return blob


def _failure(entry: pb.ListedEnvelope | pb.PushedEnvelope, store: str) -> EnvelopeError:
    failure = entry.failure
    return BY_REASON.get(failure.reason, EnvelopeError)(
        failure.message, reason=failure.reason, index_name=entry.index_name, store=store
    )
