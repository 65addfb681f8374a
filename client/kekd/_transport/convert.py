"""Converts the caller's values to protobuf messages and back.

Errors name what a message can't hold as the caller knows it.
"""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

from kekd._models import EnvelopeLike, GetResult, KMSBlob, PushResult, StorageConfig
from kekd.errors import BY_REASON, EnvelopeError, InvalidEnvelopeError, InvalidIndexNameError
from kekd_common.reasons import Reason
from kekd_proto.v1 import envelope_pb2 as pb

FIELDS: Final = tuple(field.name for field in pb.KMSBlob.DESCRIPTOR.fields)
_get_fields: Final = attrgetter(*FIELDS)


def make_location(config: StorageConfig | None) -> pb.StorageConfig | None:
    if config is None:
        return None
    if not isinstance(config, StorageConfig):
        raise TypeError(
            "invalid config_location: expected kekd.StorageConfig or None, got"
            f" {type(config).__name__}"
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
    ((field, text),) = name.items()
    try:
        _set_text(request, field, text)
    except UnicodeEncodeError as error:
        raise InvalidIndexNameError(
            f"invalid {field}: not valid Unicode, lone surrogate at character {error.start}",
            reason=Reason.INDEX_NAME_INVALID,
        ) from None


def set_texts(message: Any, **texts: str | None) -> None:
    """Sets text fields. None leaves out an optional field. Raises TypeError."""
    for name, text in texts.items():
        if text is not None or not message.DESCRIPTOR.fields_by_name[name].has_presence:
            _set_text(message, name, text)


def _set_text(message: Any, name: str, text: str | None) -> None:
    """Raises TypeError, naming the field, which protobuf's own error doesn't. Accepts bytes that
    are UTF-8, as cyborgdb_core does.
    """
    try:
        setattr(message, name, text)
    except (TypeError, UnicodeDecodeError):
        raise TypeError(f"invalid {name}: expected str, got {type(text).__name__}") from None


def set_blob(message: Any, blob: EnvelopeLike) -> None:
    """Copies an envelope's attributes to a message.

    Raises TypeError if attributes are missing, and `InvalidEnvelopeError` if some have the wrong
    type or range. Neither shows a value, which could be a wrapped KEK.
    """
    missing = [name for name in EnvelopeLike.__annotations__ if not hasattr(blob, name)]
    if missing:
        raise TypeError(
            f"invalid blob: {type(blob).__name__} has no attribute {', '.join(missing)}; pass a"
            " KMSBlob or an object with its attributes"
        )
    problems = []
    for name in FIELDS:
        try:
            value = getattr(blob, name, "")
            setattr(message, name, _bytes_of(value) if name == "wrapped_kek" else value)
        except (TypeError, ValueError, NotImplementedError):
            problems.append(f"{name} has the wrong type or is out of range")
    if problems:
        raise InvalidEnvelopeError(
            f"invalid envelope: {'; '.join(problems)}", reason=Reason.ENVELOPE_INVALID
        )


def _bytes_of(value: Any) -> Any:
    """Converts what cyborgdb_core accepts as bytes: a list or a buffer of numbers.

    Returns any other value unchanged, and protobuf rejects it.
    """
    if isinstance(value, (list, tuple)):
        return bytes(value)
    try:
        view = memoryview(value)
    except TypeError:
        return value
    return view.tobytes() if view.format == "B" else bytes(view.tolist())


def parse_etag(
    response: pb.CreateEnvelopeResponse
    | pb.PushEnvelopeResponse
    | pb.RestoreEnvelopeResponse
    | pb.UndeleteEnvelopeResponse,
) -> str:
    return response.etag


def parse_get(response: pb.GetEnvelopeResponse) -> KMSBlob:
    return parse_envelope(response.blob, response.etag, response.store)


def parse_page(response: pb.ListEnvelopesResponse) -> Iterator[GetResult]:
    """Decodes each envelope when it is taken, so that the next page can be requested before."""
    store = response.store
    for listed in response.envelopes:
        yield listed.index_name, parse_listed(listed, store)


def parse_listed(listed: pb.ListedEnvelope, store: str) -> KMSBlob | EnvelopeError:
    if listed.HasField("failure"):
        return parse_failure(listed.failure, listed.index_name, store)
    return parse_envelope(listed.blob, listed.etag, store)


def parse_push_results(response: pb.BatchPushEnvelopesResponse) -> list[PushResult]:
    return [
        (
            pushed.index_name,
            parse_failure(pushed.failure, pushed.index_name, response.store)
            if pushed.HasField("failure")
            else pushed.etag,
        )
        for pushed in response.envelopes
    ]


def parse_blob(message: pb.KMSBlob) -> KMSBlob:
    blob = _parse_fields(message)
    blob.etag = blob.store = ""
    return blob


def _parse_fields(message: pb.KMSBlob) -> KMSBlob:
    """Returns a blob without etag and store. Assigns the fields in the order of the protocol."""
    blob = KMSBlob.__new__(KMSBlob)  # `__init__` takes as long as everything else here
    blob.kms_name, blob.provider, blob.key_id, blob.region, *others = _get_fields(message)
    blob.wrapped_kek, blob.version, blob.created_at, blob.key_arn, blob.binding = others
    return blob


def parse_envelope(message: pb.KMSBlob, etag: str, store: str) -> KMSBlob:
    blob = _parse_fields(message)
    blob.etag, blob.store = etag, store
    return blob


def parse_failure(failure: pb.Failure, index_name: str, store: str) -> EnvelopeError:
    return BY_REASON.get(failure.reason, EnvelopeError)(
        failure.message, reason=failure.reason, index_name=index_name, store=store
    )
