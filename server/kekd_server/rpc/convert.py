"""Messages to values and back. What a caller sends is checked here or as the value is made."""

from functools import lru_cache

from kekd_common.limits import MAX_BATCH_ENTRIES, MAX_IDEMPOTENCY_KEY_BYTES
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_schema import Envelope
from kekd_server.access.principal import Caller
from kekd_server.model.errors import InvalidEnvelopeError, InvalidRequestError, KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.service import Pushed
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation, S3Location
from kekd_server.storage.push import Push
from kekd_server.storage.store import StoredEnvelope
from kekd_server.storage.watch.event import Change, ChangeKind, WatchEvent
from kekd_server.storage.write_attempt import WriteAttempt

Write = (
    pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.BatchPushEnvelopesRequest
    | pb.DeleteEnvelopeRequest
)

Addressed = (
    pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.GetEnvelopeRequest
    | pb.BatchGetEnvelopesRequest
    | pb.BatchPushEnvelopesRequest
    | pb.DeleteEnvelopeRequest
    | pb.ListEnvelopesRequest
    | pb.WatchEnvelopesRequest
)

_KINDS = {
    ChangeKind.CREATED: pb.Change.KIND_CREATED,
    ChangeKind.PUSHED: pb.Change.KIND_PUSHED,
    ChangeKind.DELETED: pb.Change.KIND_DELETED,
}


def location(request: Addressed) -> Location | None:
    """The store that the request names; None for the default one. Raises `InvalidRequestError` for
    one that can't exist, before anything else is done with what was sent.
    """
    if not request.HasField("config_location"):
        return None
    named = _location(request.config_location)
    named.check_lengths()
    return named


def _location(asked: pb.StorageConfig) -> Location:
    match asked.WhichOneof("location"):
        case "memory":
            return MemoryLocation()
        case "disk":
            return DiskLocation(asked.disk.path)
        case "s3":
            s3 = asked.s3
            return S3Location(
                bucket=s3.bucket,
                prefix=s3.prefix,
                region=s3.region if s3.HasField("region") else None,
                endpoint=s3.endpoint if s3.HasField("endpoint") else None,
            )
    # A kind of store from a later protocol looks the same from here. It isn't the default store.
    raise InvalidRequestError(
        "config_location names no kind of store that this daemon knows: leave it out for the"
        " default store."
    )


def envelope(
    request: pb.CreateEnvelopeRequest | pb.PushEnvelopeRequest | pb.EnvelopePush,
) -> Envelope:
    """Raises `InvalidEnvelopeError` if there is none."""
    if not request.HasField("blob"):
        raise InvalidEnvelopeError(["blob is missing"])
    blob = request.blob
    return Envelope(
        kms_name=blob.kms_name,
        provider=blob.provider,
        key_id=blob.key_id,
        region=blob.region,
        wrapped_kek=blob.wrapped_kek,
        version=blob.version if blob.HasField("version") else 1,
        created_at=blob.created_at,
        key_arn=blob.key_arn,
        binding=blob.binding,
    )


# A get asks for the same few names again and again; encoding one takes as long as opening its file.
# What isn't a name raises and isn't kept, so that these take 10 MB at most.
index_name = lru_cache(maxsize=8192)(IndexName)


def index_names(request: pb.BatchGetEnvelopesRequest) -> dict[str, IndexName | KekdError]:
    """Each name once, with what it is or why it is none. Raises `InvalidRequestError` for none or
    too many.
    """
    if not 0 < len(request.index_names) <= MAX_BATCH_ENTRIES:
        raise InvalidRequestError(f"index_names must be 1 to {MAX_BATCH_ENTRIES} names.")
    return {sent: _name(sent) for sent in request.index_names}


def _name(sent: str) -> IndexName | KekdError:
    try:
        return index_name(sent)
    except KekdError as error:
        return error


def push(sent: pb.PushEnvelopeRequest | pb.EnvelopePush) -> Push:
    return Push(index_name(sent.index_name), envelope(sent), if_etag(sent))


def pushes(request: pb.BatchPushEnvelopesRequest) -> list[Push | KekdError]:
    """Each push, or why it is none. Raises `InvalidRequestError` for none or too many."""
    if not 0 < len(request.pushes) <= MAX_BATCH_ENTRIES:
        raise InvalidRequestError(f"pushes must be 1 to {MAX_BATCH_ENTRIES} envelopes.")
    return [_push(it) for it in request.pushes]


def _push(sent: pb.EnvelopePush) -> Push | KekdError:
    try:
        return push(sent)
    except KekdError as error:
        return error


def get_response(stored: StoredEnvelope) -> pb.GetEnvelopeResponse:
    response = pb.GetEnvelopeResponse(etag=stored.etag, store=stored.store)
    _fill(response.blob, stored.envelope)
    return response


def list_envelope(listed: pb.ListedEnvelope, result: StoredEnvelope | KekdError) -> None:
    if isinstance(result, KekdError):
        _fail(listed, result)
    else:
        listed.etag = result.etag
        _fill(listed.blob, result.envelope)


def pushed_response(
    request: pb.BatchPushEnvelopesRequest, pushed: Pushed
) -> pb.BatchPushEnvelopesResponse:
    response = pb.BatchPushEnvelopesResponse(store=pushed.store)
    for sent, result in zip(request.pushes, pushed.results, strict=True):
        entry = response.envelopes.add(index_name=sent.index_name)
        if isinstance(result, KekdError):
            _fail(entry, result)
        else:
            entry.etag = result.etag
    return response


def _fail(entry: pb.ListedEnvelope | pb.PushedEnvelope, error: KekdError) -> None:
    entry.failure.reason, entry.failure.message = error.reason, str(error)


def _fill(blob: pb.KMSBlob, envelope: Envelope) -> None:
    """In place, as a message that is passed to the constructor of another is copied."""
    blob.kms_name = envelope.kms_name
    blob.provider = envelope.provider
    blob.key_id = envelope.key_id
    blob.region = envelope.region
    blob.wrapped_kek = envelope.wrapped_kek
    blob.version = envelope.version
    blob.created_at = envelope.created_at
    blob.key_arn = envelope.key_arn
    blob.binding = envelope.binding


def watch_started(store: str, heartbeat_seconds: float) -> pb.WatchEnvelopesResponse:
    return pb.WatchEnvelopesResponse(
        started=pb.WatchStarted(store=store, heartbeat_seconds=heartbeat_seconds)
    )


def event(told: Change | WatchEvent) -> pb.WatchEnvelopesResponse:
    match told:
        case WatchEvent.HEARTBEAT:
            return pb.WatchEnvelopesResponse(heartbeat=pb.Heartbeat())
        case WatchEvent.RESYNC:
            return pb.WatchEnvelopesResponse(resync=pb.Resync())
        case Change(kind, name, etag):
            change = pb.Change(index_name=name.value, kind=_KINDS[kind], etag=etag)
            return pb.WatchEnvelopesResponse(change=change)


def if_etag(
    request: pb.PushEnvelopeRequest | pb.EnvelopePush | pb.DeleteEnvelopeRequest,
) -> str | None:
    """None for an unconditional call. Raises `InvalidRequestError` for an empty etag, which is more
    likely a lost one than a wish to write unconditionally.
    """
    if not request.HasField("if_etag"):
        return None
    if not request.if_etag:
        raise InvalidRequestError("if_etag is empty: leave it out for an unconditional call.")
    return request.if_etag


def attempt(request: Write, caller: Caller, *, is_retry: bool) -> WriteAttempt | None:
    """None for a write that its caller doesn't mean to send again. `is_retry` is for a call that
    gRPC itself sends again, whose message can't say so.

    The id covers the identity and the whole request. So nobody finds out about the writes of
    others, and a key that is used for two different writes names each of them.
    """
    key = request.idempotency_key.encode()
    is_retry = is_retry or request.is_retry
    if not key:
        if is_retry:
            raise InvalidRequestError(
                "this write was sent again without an idempotency_key, and an earlier attempt may"
                " have been applied: get the envelope and decide again; set idempotency_key on"
                " writes that are to be sent again."
            )
        return None
    if len(key) > MAX_IDEMPOTENCY_KEY_BYTES:
        raise InvalidRequestError(
            f"idempotency_key must have at most {MAX_IDEMPOTENCY_KEY_BYTES} bytes."
        )
    request.is_retry = False  # so that the request is the same in each attempt
    sent = request.SerializeToString(deterministic=True)
    parts = (caller.identity.encode(), type(request).__name__.encode(), sent)
    return WriteAttempt.derive(parts, is_retry=is_retry)


def page_size(request: pb.ListEnvelopesRequest) -> int:
    """Raises `InvalidRequestError` if it is out of range."""
    if not 0 <= request.page_size <= MAX_BATCH_ENTRIES:
        raise InvalidRequestError(f"page_size must be from 0 to {MAX_BATCH_ENTRIES}.")
    return request.page_size or MAX_BATCH_ENTRIES
