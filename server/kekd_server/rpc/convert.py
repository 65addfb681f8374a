"""Converts protobuf messages to the daemon's types and back, and validates requests."""

from copy import deepcopy
from functools import lru_cache
from typing import Final

from kekd_common.limits import (
    MAX_BATCH_ENTRIES,
    MAX_IDEMPOTENCY_KEY_BYTES,
    MAX_IMPORTED_VERSIONS,
    MAX_REASON_BYTES,
)
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_schema import Envelope
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import InvalidEnvelopeError, InvalidRequestError, KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.service import BatchPushResult
from kekd_server.storage.history.destruction import UNCHECKED_COPIES, Destruction
from kekd_server.storage.history.version import Origin, Version, VersionEvent
from kekd_server.storage.history.version_import import ImportedEnvelope
from kekd_server.storage.history.version_listing import VersionListing
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation, S3Location
from kekd_server.storage.stored_envelope import StoredEnvelope
from kekd_server.storage.watch.event import Change, ChangeKind, WatchEvent
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.push import Push

Write = (
    pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.BatchPushEnvelopesRequest
    | pb.DeleteEnvelopeRequest
    | pb.RestoreEnvelopeRequest
    | pb.UndeleteEnvelopeRequest
    | pb.DestroyEnvelopeRequest
)

Addressed = (
    pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.GetEnvelopeRequest
    | pb.BatchGetEnvelopesRequest
    | pb.BatchPushEnvelopesRequest
    | pb.DeleteEnvelopeRequest
    | pb.ListEnvelopesRequest
    | pb.ListEnvelopeVersionsRequest
    | pb.RestoreEnvelopeRequest
    | pb.UndeleteEnvelopeRequest
    | pb.HoldEnvelopeRequest
    | pb.ReleaseEnvelopeRequest
    | pb.DestroyEnvelopeRequest
    | pb.ImportEnvelopeVersionsRequest
    | pb.WatchEnvelopesRequest
)

_MAX_SERIALIZED_EVENTS: Final = 256
"""Watchers that are further behind than these serialize their events again."""

_KINDS: Final = {
    ChangeKind.CREATED: pb.Change.KIND_CREATED,
    ChangeKind.PUSHED: pb.Change.KIND_PUSHED,
    ChangeKind.DELETED: pb.Change.KIND_DELETED,
    ChangeKind.RESTORED: pb.Change.KIND_RESTORED,
    ChangeKind.UNDELETED: pb.Change.KIND_UNDELETED,
}
_EVENTS: Final = {
    VersionEvent.CREATED: pb.EnvelopeVersion.EVENT_CREATED,
    VersionEvent.PUSHED: pb.EnvelopeVersion.EVENT_PUSHED,
    VersionEvent.RESTORED: pb.EnvelopeVersion.EVENT_RESTORED,
    VersionEvent.UNDELETED: pb.EnvelopeVersion.EVENT_UNDELETED,
    VersionEvent.DELETED: pb.EnvelopeVersion.EVENT_DELETED,
    VersionEvent.FOUND: pb.EnvelopeVersion.EVENT_FOUND,
}


def parse_location(request: Addressed) -> Location | None:
    """Returns the location that the request names, or None for the default store. Raises
    `InvalidRequestError` for one that can't exist.
    """
    if not request.HasField("config_location"):
        return None
    location = _location(request.config_location)
    location.check_lengths()
    return location


def _location(requested: pb.StorageConfig) -> Location:
    match requested.WhichOneof("location"):
        case "memory":
            return MemoryLocation()
        case "disk":
            return DiskLocation(requested.disk.path)
        case "s3":
            s3 = requested.s3
            return S3Location(
                bucket=s3.bucket,
                prefix=s3.prefix,
                region=s3.region if s3.HasField("region") else None,
                endpoint=s3.endpoint if s3.HasField("endpoint") else None,
            )
    # Also a kind of store of a later protocol, which this daemon can't see. Never use the default
    # store instead.
    raise InvalidRequestError(
        "config_location has a kind of store that this daemon doesn't support; omit it to use the"
        " default store"
    )


def parse_envelope(
    request: pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.EnvelopePush
    | pb.ImportedVersion,
) -> Envelope:
    """Raises `InvalidEnvelopeError` if the request has no envelope."""
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


# Callers get the same few names again and again, and encoding one takes as long as opening its
# file. An invalid name raises and isn't cached, so the cache takes at most 20 MB.
parse_index_name = lru_cache(maxsize=16384)(IndexName)


def parse_index_names(request: pb.BatchGetEnvelopesRequest) -> dict[str, IndexName | KekdError]:
    """Returns each name once, as sent, with the parsed name or its error. Raises
    `InvalidRequestError` for no names or too many.
    """
    if not 0 < len(request.index_names) <= MAX_BATCH_ENTRIES:
        raise InvalidRequestError(f"index_names must be 1 to {MAX_BATCH_ENTRIES} names")
    try:
        return {sent: parse_index_name(sent) for sent in request.index_names}
    except KekdError:
        return {sent: _name(sent) for sent in request.index_names}


def _name(sent: str) -> IndexName | KekdError:
    try:
        return parse_index_name(sent)
    except KekdError as error:
        return error


def parse_push(sent: pb.PushEnvelopeRequest | pb.EnvelopePush) -> Push:
    return Push(parse_index_name(sent.index_name), parse_envelope(sent), parse_if_etag(sent))


def parse_pushes(request: pb.BatchPushEnvelopesRequest) -> list[Push | KekdError]:
    """Returns each push or its error. Raises `InvalidRequestError` for no pushes or too many."""
    if not 0 < len(request.pushes) <= MAX_BATCH_ENTRIES:
        raise InvalidRequestError(f"pushes must be 1 to {MAX_BATCH_ENTRIES} envelopes")
    return [_push(sent) for sent in request.pushes]


def _push(sent: pb.EnvelopePush) -> Push | KekdError:
    try:
        return parse_push(sent)
    except KekdError as error:
        return error


def make_get_response(stored: StoredEnvelope) -> pb.GetEnvelopeResponse:
    response = pb.GetEnvelopeResponse(etag=stored.etag, store=stored.store)
    _fill(response.blob, stored.envelope)
    return response


def fill_entry(listed: pb.ListedEnvelope, result: StoredEnvelope | KekdError) -> None:
    if isinstance(result, KekdError):
        _fail(listed, result)
    else:
        listed.etag = result.etag
        _fill(listed.blob, result.envelope)


def make_batch_push_response(
    request: pb.BatchPushEnvelopesRequest, pushed: BatchPushResult
) -> pb.BatchPushEnvelopesResponse:
    response = pb.BatchPushEnvelopesResponse(store=pushed.store_name)
    for sent, result in zip(request.pushes, pushed.results, strict=True):
        entry = response.envelopes.add(index_name=sent.index_name)
        if isinstance(result, KekdError):
            _fail(entry, result)
        else:
            entry.etag = result.etag
    return response


def _fail(
    entry: pb.ListedEnvelope | pb.PushedEnvelope | pb.EnvelopeVersion, error: KekdError
) -> None:
    entry.failure.reason, entry.failure.message = error.reason, str(error)


def _fill(blob: pb.KMSBlob, envelope: Envelope) -> None:
    """In place, because a message's constructor copies the messages that are passed to it."""
    blob.kms_name = envelope.kms_name
    blob.provider = envelope.provider
    blob.key_id = envelope.key_id
    blob.region = envelope.region
    blob.wrapped_kek = envelope.wrapped_kek
    blob.version = envelope.version
    blob.created_at = envelope.created_at
    blob.key_arn = envelope.key_arn
    blob.binding = envelope.binding


def make_watch_started(store: str, heartbeat_seconds: float) -> pb.WatchEnvelopesResponse:
    return pb.WatchEnvelopesResponse(
        started=pb.WatchStarted(store=store, heartbeat_seconds=heartbeat_seconds)
    )


@lru_cache(maxsize=_MAX_SERIALIZED_EVENTS)
def serialize_event(event: Change | WatchEvent) -> bytes:
    """Serializes an event for its first watcher, and returns the same bytes for the others."""
    return _make_event(event).SerializeToString()


def _make_event(event: Change | WatchEvent) -> pb.WatchEnvelopesResponse:
    match event:
        case WatchEvent.HEARTBEAT:
            return pb.WatchEnvelopesResponse(heartbeat=pb.Heartbeat())
        case WatchEvent.RESYNC:
            return pb.WatchEnvelopesResponse(resync=pb.Resync())
        case Change(kind, name, etag, breaches_hold):
            change = pb.Change(
                index_name=name.value, kind=_KINDS[kind], etag=etag, breaches_hold=breaches_hold
            )
            return pb.WatchEnvelopesResponse(change=change)


def parse_if_etag(
    request: pb.PushEnvelopeRequest
    | pb.EnvelopePush
    | pb.DeleteEnvelopeRequest
    | pb.RestoreEnvelopeRequest
    | pb.DestroyEnvelopeRequest,
) -> str | None:
    """Returns None for an unconditional call. Raises `InvalidRequestError` for an empty etag, which
    is more likely a mistake than an unconditional call.
    """
    if not request.HasField("if_etag"):
        return None
    if not request.if_etag:
        raise InvalidRequestError("if_etag is empty; omit it for an unconditional call")
    return request.if_etag


def parse_version_id(request: pb.GetEnvelopeRequest | pb.RestoreEnvelopeRequest) -> str:
    """Raises `InvalidRequestError` for an empty id, which is more likely a mistake."""
    if not request.version_id:
        raise InvalidRequestError(
            "version_id is empty; name a version that ListEnvelopeVersions returns"
        )
    return request.version_id


def parse_reason(request: pb.HoldEnvelopeRequest | pb.DestroyEnvelopeRequest) -> str:
    """Raises `InvalidRequestError` if it is missing or too long."""
    if not request.reason.strip():
        raise InvalidRequestError("reason is empty; say why, for the audit log")
    if len(request.reason.encode()) > MAX_REASON_BYTES:
        raise InvalidRequestError(f"reason must have at most {MAX_REASON_BYTES} bytes")
    return request.reason


def parse_imported(request: pb.ImportEnvelopeVersionsRequest) -> list[ImportedEnvelope]:
    """Raises `InvalidRequestError` and `InvalidEnvelopeError`."""
    if not 0 < len(request.versions) <= MAX_IMPORTED_VERSIONS:
        raise InvalidRequestError(f"versions must be 1 to {MAX_IMPORTED_VERSIONS} versions")
    return [_imported(sent) for sent in request.versions]


def _imported(sent: pb.ImportedVersion) -> ImportedEnvelope:
    event = next((event for event, number in _EVENTS.items() if number == sent.event), None)
    if event is None:
        raise InvalidRequestError(
            "a version has no event, or one that this daemon doesn't know; upgrade the daemon"
        )
    time_ns = sent.time.seconds * 10**9 + sent.time.nanos
    is_deletion = event is VersionEvent.DELETED
    if is_deletion and sent.HasField("blob"):
        raise InvalidRequestError("a version is a deletion and has a blob; remove one of them")
    envelope = None if is_deletion else parse_envelope(sent)
    return ImportedEnvelope(time_ns, Origin(event, sent.caller), envelope, sent.etag)


def make_destroy_response(destruction: Destruction) -> pb.DestroyEnvelopeResponse:
    response = pb.DestroyEnvelopeResponse(store=destruction.store, unchecked=UNCHECKED_COPIES)
    for version_id, etag, digest in destruction.destroyed:
        response.destroyed.add(version_id=version_id, etag=etag, wrapped_kek_sha256=digest)
    for version_id, why in destruction.remaining:
        response.remaining.add(version_id=version_id, reason=why)
    return response


def make_versions_response(listing: VersionListing) -> pb.ListEnvelopeVersionsResponse:
    response = pb.ListEnvelopeVersionsResponse(store=listing.store)
    for version in listing.versions:
        _fill_version(response.versions.add(), version, listing.envelopes.get(version.id))
    if listing.hold:
        response.hold.reason, response.hold.caller = listing.hold.reason, listing.hold.caller
        response.hold.time.FromNanoseconds(listing.hold.time_ns)
    if listing.has_more:
        response.next_page_token = listing.versions[-1].id
    return response


def _fill_version(
    sent: pb.EnvelopeVersion, version: Version, envelope: StoredEnvelope | KekdError | None
) -> None:
    sent.version_id = version.id
    sent.event = _EVENTS[version.event]
    sent.time.FromNanoseconds(version.time_ns)
    sent.caller = version.caller
    sent.etag = version.etag
    sent.size = version.size
    if isinstance(envelope, KekdError):
        _fail(sent, envelope)
    elif envelope:
        _fill(sent.blob, envelope.envelope)


def parse_attempt(
    message: Write, request: RequestContext, *, is_retry: bool
) -> WriteAttempt | None:
    """Returns None for a write without an idempotency key. `is_retry`: gRPC itself sent the call
    again, which its message doesn't show.

    The id covers the identity and the whole message. So callers can't find out about each other's
    writes, and different writes with the same key are different attempts.
    """
    key = message.idempotency_key.encode()
    is_retry = is_retry or message.is_retry
    if not key:
        if is_retry:
            raise InvalidRequestError(
                "this write was sent again without an idempotency_key, and an earlier attempt may"
                " have been applied; get the envelope to find out, and set idempotency_key on"
                " writes that you retry"
            )
        return None
    if len(key) > MAX_IDEMPOTENCY_KEY_BYTES:
        raise InvalidRequestError(
            f"idempotency_key must have at most {MAX_IDEMPOTENCY_KEY_BYTES} bytes"
        )
    content = _as_first_attempt(message).SerializeToString(deterministic=True)
    parts = (request.principal.identity.encode(), type(message).__name__.encode(), content)
    return WriteAttempt.derive(parts, is_retry=is_retry)


def _as_first_attempt(message: Write) -> Write:
    """Returns the same content for each attempt."""
    if not message.is_retry:
        return message
    first = deepcopy(message)
    first.is_retry = False
    return first


def parse_page_size(request: pb.ListEnvelopesRequest | pb.ListEnvelopeVersionsRequest) -> int:
    """Raises `InvalidRequestError` if it is out of range."""
    if not 0 <= request.page_size <= MAX_BATCH_ENTRIES:
        raise InvalidRequestError(f"page_size must be from 0 to {MAX_BATCH_ENTRIES}")
    return request.page_size or MAX_BATCH_ENTRIES
