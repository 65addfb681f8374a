"""Messages to values and back. What a caller sends is checked here or as the value is made."""

from functools import lru_cache

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_schema import Envelope
from kekd_server.errors import InvalidEnvelopeError, InvalidRequestError
from kekd_server.names import IndexName
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation, S3Location
from kekd_server.storage.store import StoredEnvelope

MAX_PAGE_SIZE = 1000

Addressed = (
    pb.CreateEnvelopeRequest
    | pb.PushEnvelopeRequest
    | pb.GetEnvelopeRequest
    | pb.DeleteEnvelopeRequest
    | pb.ListEnvelopesRequest
)


def location(request: Addressed) -> Location | None:
    """The store that the request names; None for the default one."""
    if not request.HasField("config_location"):
        return None
    asked = request.config_location
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


def envelope(request: pb.CreateEnvelopeRequest | pb.PushEnvelopeRequest) -> Envelope:
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
index_name = lru_cache(maxsize=8192)(IndexName)


def get_response(stored: StoredEnvelope) -> pb.GetEnvelopeResponse:
    response = pb.GetEnvelopeResponse(etag=stored.etag)
    # Filled in place, as a message that is passed to the constructor would be copied.
    blob, envelope = response.blob, stored.envelope
    blob.kms_name = envelope.kms_name
    blob.provider = envelope.provider
    blob.key_id = envelope.key_id
    blob.region = envelope.region
    blob.wrapped_kek = envelope.wrapped_kek
    blob.version = envelope.version
    blob.created_at = envelope.created_at
    blob.key_arn = envelope.key_arn
    blob.binding = envelope.binding
    return response


def if_etag(request: pb.PushEnvelopeRequest | pb.DeleteEnvelopeRequest) -> str | None:
    """None for an unconditional call. Raises `InvalidRequestError` for an empty etag, which is more
    likely a lost one than a wish to write unconditionally.
    """
    if not request.HasField("if_etag"):
        return None
    if not request.if_etag:
        raise InvalidRequestError("if_etag is empty: leave it out for an unconditional call.")
    return request.if_etag


def page_size(request: pb.ListEnvelopesRequest) -> int:
    """Raises `InvalidRequestError` if it is out of range."""
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        raise InvalidRequestError(f"page_size must be from 0 to {MAX_PAGE_SIZE}.")
    return request.page_size or MAX_PAGE_SIZE
