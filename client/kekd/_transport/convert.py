"""Values to messages and back. What the wire can't carry is named as the caller knows it."""

from datetime import UTC
from typing import Any, Final, Literal

from kekd._models import Change, EnvelopeLike, Event, Found, KMSBlob, Pushed, Resync, StorageConfig
from kekd._status import CertificateStatus, DaemonStatus, StoreStatus
from kekd.errors import BY_REASON, EnvelopeError, InvalidEnvelopeError, InvalidIndexNameError
from kekd_common.reasons import Reason
from kekd_proto.v1 import daemon_pb2
from kekd_proto.v1 import envelope_pb2 as pb

_KINDS: Final[dict[int, Literal["created", "pushed", "deleted"]]] = {
    pb.Change.KIND_CREATED: "created",
    pb.Change.KIND_DELETED: "deleted",
}

FIELDS: Final = tuple(field.name for field in pb.KMSBlob.DESCRIPTOR.fields)


def location(config: StorageConfig | None) -> pb.StorageConfig | None:
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
            set_texts(location.disk, path=config.path)
        case _:
            set_texts(
                location.s3,
                bucket=config.bucket,
                prefix=config.prefix,
                region=config.region,
                endpoint=config.endpoint,
            )
    return location


def set_name(request: Any, **name: str) -> None:
    try:
        set_texts(request, **name)
    except UnicodeEncodeError as error:
        (field,) = name
        raise InvalidIndexNameError(
            f"{field} is not valid Unicode: a lone surrogate at character {error.start}.",
            reason=Reason.INDEX_NAME_INVALID,
        ) from None


def set_texts(message: Any, **texts: str | None) -> None:
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


def set_blob(message: Any, blob: EnvelopeLike) -> None:
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
    for name in FIELDS:
        try:
            value = getattr(blob, name, "")
            setattr(message, name, _bytes_of(value) if name == "wrapped_kek" else value)
        except (TypeError, ValueError, NotImplementedError):
            problems.append(f"{name} has a value of the wrong type or range")
    if problems:
        raise InvalidEnvelopeError(
            f"The envelope is not valid: {'; '.join(problems)}.", reason=Reason.ENVELOPE_INVALID
        )


def _bytes_of(value: Any) -> Any:
    """Whatever cyborgdb_core takes for bytes: a list or a buffer of numbers. Anything else stays as
    it is, for protobuf to refuse.
    """
    if isinstance(value, (list, tuple)):
        return bytes(value)
    try:
        view = memoryview(value)
    except TypeError:
        return value
    return view.tobytes() if view.format == "B" else bytes(view.tolist())


def etag(answer: pb.CreateEnvelopeResponse | pb.PushEnvelopeResponse) -> str:
    return answer.etag


def blob(answer: pb.GetEnvelopeResponse) -> KMSBlob:
    return _read(answer.blob, answer.etag, answer.store)


def found(answer: pb.BatchGetEnvelopesResponse | pb.ListEnvelopesResponse) -> list[Found]:
    return [
        (listed.index_name, _failure(listed, answer.store))
        if listed.HasField("failure")
        else (listed.index_name, _read(listed.blob, listed.etag, answer.store))
        for listed in answer.envelopes
    ]


def pushed(answer: pb.BatchPushEnvelopesResponse) -> list[Pushed]:
    return [
        (it.index_name, _failure(it, answer.store) if it.HasField("failure") else it.etag)
        for it in answer.envelopes
    ]


def event(answer: pb.WatchEnvelopesResponse) -> Event | None:
    match answer.WhichOneof("event"):
        case "started" | "resync":
            return Resync()
        case "change":
            told = answer.change
            return Change(told.index_name, _KINDS.get(told.kind, "pushed"), told.etag)
        case _:  # a heartbeat, or what a newer daemon tells
            return None


def status(answer: daemon_pb2.GetStatusResponse) -> DaemonStatus:
    return DaemonStatus(
        version=answer.version,
        started_at=answer.started_at.ToDatetime(UTC),
        now=answer.now.ToDatetime(UTC),
        engine=answer.engine,
        workers=answer.workers,
        stores=tuple(
            StoreStatus(it.name, it.is_default, it.healthy, it.error_message)
            for it in answer.stores
        ),
        certificates=tuple(
            CertificateStatus(it.file, it.expires_at.ToDatetime(UTC), it.error)
            for it in answer.certificates
        ),
        warnings=tuple(answer.warnings),
        policy_error=answer.policy_error,
        audit_error=answer.audit_error,
    )


def blob_of(message: pb.KMSBlob) -> KMSBlob:
    return KMSBlob(**{name: getattr(message, name) for name in FIELDS})


def _read(message: pb.KMSBlob, etag: str, store: str) -> KMSBlob:
    blob = blob_of(message)
    blob.etag, blob.store = etag, store
    return blob


def _failure(entry: pb.ListedEnvelope | pb.PushedEnvelope, store: str) -> EnvelopeError:
    failure = entry.failure
    return BY_REASON.get(failure.reason, EnvelopeError)(
        failure.message, reason=failure.reason, index_name=entry.index_name, store=store
    )
