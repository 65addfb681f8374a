"""Encodes and decodes stored records. Only this package knows that a record is a FlatBuffer.

`schema/kms_blob.fbs` describes the record. Its first seven fields are CyborgDB's: kekd reads the
records of CyborgDB, and CyborgDB those of kekd.

The FlatBuffers runtime for Python has no verifier: from corrupt bytes it reads out of bounds,
raises arbitrary errors, or returns the wrong field. So `decode` doesn't use it. It uses `Layout`,
which accepts a record only if every byte is accounted for.

The runtime is also slow: to build a record field by field takes ten times as long as the rest of a
write. So `encode` builds one record of each layout, and copies it for other values.
"""

from functools import lru_cache
from operator import attrgetter
from typing import Final

from kekd_schema.envelope import VECTOR_FIELDS, Envelope
from kekd_schema.layout import CorruptRecordError, Layout

__all__ = ["CorruptRecordError", "decode", "encode", "prepare_to_encode"]

_MAX_LAYOUTS: Final = 1024
"""Some 5 MB. The envelopes of a keystore have a few layouts."""

_layouts: dict[int, Layout] = {}
"""The last layout of each record length."""

_vectors_of = attrgetter(*VECTOR_FIELDS)


def encode(envelope: Envelope) -> bytes:
    """Returns the record of an envelope: deterministic, and protected by a checksum."""
    values = tuple(
        value.encode() if isinstance(value, str) else value for value in _vectors_of(envelope)
    )
    version, created_at = envelope.version, envelope.created_at
    layout = _build_layout(tuple(map(len, values)), version != 0, created_at != 0)
    return layout.fill(values, version, created_at)


def prepare_to_encode() -> None:
    """Imports flatbuffers, which imports NumPy if that is installed. Otherwise the first `encode`
    does so. The daemon calls this after it has started to serve.
    """
    encode(Envelope())


def decode(record: bytes) -> Envelope:
    """Returns the envelope of a record. Raises `CorruptRecordError` for any other bytes.

    A record of kekd has a checksum, so that every change is detected. A record of CyborgDB has
    none: damage to its structure is detected, and damage inside a value is not.
    """
    return _decode_cached(record) if len(record) <= _MAX_CACHED_BYTES else _decode(record)


def _decode(record: bytes) -> Envelope:
    layout = _layouts.get(len(record))
    if layout is None or not layout.fits(record):
        layout = Layout(record)
        if len(_layouts) >= _MAX_LAYOUTS:
            _layouts.clear()  # in one step, as several threads may be here
        _layouts[len(record)] = layout
    return layout.read(record)


_MAX_CACHED_BYTES: Final = 1024
_decode_cached = lru_cache(maxsize=256)(_decode)
"""The same few records are read again and again. An envelope takes 900 bytes besides its record."""


@lru_cache(_MAX_LAYOUTS)
def _build_layout(lengths: tuple[int, ...], has_version: bool, has_created_at: bool) -> Layout:  # noqa: FBT001
    """Builds the layout of records whose values have these lengths, with the generated code."""
    # Imported here, as it takes a fifth of the daemon's startup time.
    import flatbuffers  # noqa: PLC0415

    from kekd_schema import kms_blob_generated as fbs  # noqa: PLC0415

    builder = flatbuffers.Builder(256 + sum(lengths))
    kms_name, provider, key_id, region, wrapped_kek, key_arn, binding = map(bytes, lengths)
    at_kms_name = builder.CreateString(kms_name)
    at_provider = builder.CreateString(provider)
    at_key_id = builder.CreateString(key_id)
    at_region = builder.CreateString(region)
    at_wrapped_kek = builder.CreateByteVector(wrapped_kek)
    at_key_arn = builder.CreateString(key_arn) if key_arn else 0
    at_binding = builder.CreateString(binding) if binding else 0
    fbs.KMSBlobStart(builder)
    # Any value except the default reserves a slot.
    fbs.KMSBlobAddCreatedAt(builder, int(has_created_at))
    fbs.KMSBlobAddKmsName(builder, at_kms_name)
    fbs.KMSBlobAddProvider(builder, at_provider)
    fbs.KMSBlobAddKeyId(builder, at_key_id)
    fbs.KMSBlobAddRegion(builder, at_region)
    fbs.KMSBlobAddWrappedKek(builder, at_wrapped_kek)
    fbs.KMSBlobAddVersion(builder, int(has_version))
    fbs.KMSBlobAddKeyArn(builder, at_key_arn)
    fbs.KMSBlobAddBinding(builder, at_binding)
    fbs.KMSBlobAddChecksum(builder, 1)
    builder.Finish(fbs.KMSBlobEnd(builder))
    return Layout(bytes(builder.Output()))
