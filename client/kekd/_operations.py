"""What each method sends and what it makes of the answer, for both kinds of client."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar

from google.protobuf.message import Message

from kekd._types import KMSBlob, StorageConfig
from kekd.errors import InvalidArgumentError, InvalidEnvelopeError, InvalidIndexNameError
from kekd_proto.reasons import Reason
from kekd_proto.v1 import envelope_pb2 as pb

Result = TypeVar("Result")
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

_OWN_FIELDS: Final = ("key_arn", "binding")
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


def _of_valid_text(
    build: Callable[Arguments, Operation[Result]],
) -> Callable[Arguments, Operation[Result]]:
    """Refuses lone surrogates, which text can hold and UTF-8, and so the wire, can't."""

    @wraps(build)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Operation[Result]:
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
    config_location: StorageConfig | None, index_name: str, blob: EnvelopeLike | None
) -> Operation[str]:
    request = pb.CreateEnvelopeRequest(config_location=_location(config_location))
    _name(request, index_name)
    _fill(request, blob)
    return Operation(
        f"/{SERVICE}/CreateEnvelope",
        request,
        pb.CreateEnvelopeResponse,
        _etag,
        wait_for_ready=True,
    )


@_of_valid_text
def push(
    config_location: StorageConfig | None,
    index_name: str,
    blob: EnvelopeLike | None,
    if_etag: str | None,
) -> Operation[str]:
    request = pb.PushEnvelopeRequest(config_location=_location(config_location), if_etag=if_etag)
    _name(request, index_name)
    _fill(request, blob)
    return Operation(
        f"/{SERVICE}/PushEnvelope",
        request,
        pb.PushEnvelopeResponse,
        _etag,
        wait_for_ready=if_etag is not None,
    )


@_of_valid_text
def get(config_location: StorageConfig | None, index_name: str) -> Operation[KMSBlob]:
    request = pb.GetEnvelopeRequest(config_location=_location(config_location))
    _name(request, index_name)
    return Operation(f"/{SERVICE}/GetEnvelope", request, pb.GetEnvelopeResponse, _blob)


@_of_valid_text
def delete(
    config_location: StorageConfig | None, index_name: str, if_etag: str | None
) -> Operation[bool]:
    request = pb.DeleteEnvelopeRequest(config_location=_location(config_location), if_etag=if_etag)
    _name(request, index_name)
    return Operation(
        f"/{SERVICE}/DeleteEnvelope", request, pb.DeleteEnvelopeResponse, lambda a: a.existed
    )


@_of_valid_text
def page(
    config_location: StorageConfig | None, prefix: str, token: str
) -> Operation[tuple[list[str], str]]:
    request = pb.ListEnvelopesRequest(config_location=_location(config_location), page_token=token)
    _name(request, prefix, "prefix")
    return Operation(f"/{SERVICE}/ListEnvelopes", request, pb.ListEnvelopesResponse, _names)


def serving() -> Operation[bool]:
    """Asks the standard health service (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""
    # Imported here, as only start-up probes need it.
    from grpc_health.v1 import health_pb2  # noqa: PLC0415

    answer = health_pb2.HealthCheckResponse
    return Operation(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(service=SERVICE),
        answer,
        lambda it: it.status == answer.SERVING,
    )


def _location(config: StorageConfig | None) -> pb.StorageConfig | None:
    if config is None:
        return None
    match config.kind:
        case "memory":
            return pb.StorageConfig(memory=pb.MemoryStorage())
        case "disk":
            return pb.StorageConfig(disk=pb.DiskStorage(path=config.path))
        case _:
            s3 = pb.S3Storage(
                bucket=config.bucket,
                prefix=config.prefix,
                region=config.region,
                endpoint=config.endpoint,
            )
            return pb.StorageConfig(s3=s3)


def _name(request: Any, name: str, field: str = "index_name") -> None:
    try:
        setattr(request, field, name)
    except UnicodeEncodeError as error:
        raise InvalidIndexNameError(
            f"{field} is not valid Unicode: a lone surrogate at character {error.start}.",
            reason=Reason.INDEX_NAME_INVALID,
        ) from None


def _fill(request: Any, blob: EnvelopeLike | None) -> None:
    """Copies the attributes, and names each that the wire can't carry. Not their values, and not
    the errors that hold them: one might be a wrapped KEK.
    """
    if blob is None:
        return  # the daemon says what is missing
    message = request.blob
    message.SetInParent()
    problems = []
    for name in _FIELDS:
        try:
            value = getattr(blob, name, "") if name in _OWN_FIELDS else getattr(blob, name)
            setattr(message, name, value)
        except AttributeError:
            problems.append(f"it has no attribute {name}")
        except (TypeError, ValueError):
            problems.append(f"{name} has a value of the wrong type or range")
    if problems:
        raise InvalidEnvelopeError(
            f"The envelope is not valid: {'; '.join(problems)}.", reason=Reason.ENVELOPE_INVALID
        )


def _etag(answer: pb.CreateEnvelopeResponse | pb.PushEnvelopeResponse) -> str:
    return answer.etag


def _blob(answer: pb.GetEnvelopeResponse) -> KMSBlob:
    blob = KMSBlob(**{name: getattr(answer.blob, name) for name in _FIELDS})
    blob.etag = answer.etag
    return blob


def _names(answer: pb.ListEnvelopesResponse) -> tuple[list[str], str]:
    return [listed.index_name for listed in answer.envelopes], answer.next_page_token
