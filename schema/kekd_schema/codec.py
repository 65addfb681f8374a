"""Encodes envelopes to stored records, which are FlatBuffers, and decodes them.

`schema/kms_blob.fbs` describes the record. Its first seven fields are CyborgDB's, so kekd and
CyborgDB read each other's records.

The FlatBuffers runtime for Python has no verifier. For damaged bytes, it reads out of bounds,
raises arbitrary errors, or returns the wrong field. Therefore `decode` uses `Layout` instead, which
accepts a record only if it can account for every byte. The runtime also takes ten times as long as
the rest of a write to build a record field by field. Therefore `encode` builds one record of each
layout, and fills the values into copies.
"""

from functools import lru_cache
from typing import Final

from kekd_schema.envelope import Envelope
from kekd_schema.layout import CorruptRecordError, Layout

__all__ = ["CorruptRecordError", "decode", "encode", "prepare_to_encode"]

_MAX_LAYOUTS: Final = 1024
"""About 5 MB. A keystore has only a few layouts."""

_layouts: dict[int, Layout] = {}
"""The last layout seen, by record length."""


def encode(envelope: Envelope) -> bytes:
    """Encodes an envelope. The record is deterministic and has a checksum."""
    values = (
        envelope.kms_name.encode(),
        envelope.provider.encode(),
        envelope.key_id.encode(),
        envelope.region.encode(),
        envelope.wrapped_kek,
        envelope.key_arn.encode(),
        envelope.binding.encode(),
    )
    version, created_at = envelope.version, envelope.created_at
    layout = _build_layout(tuple(map(len, values)), version != 0, created_at != 0)
    return layout.fill(values, version, created_at)


def prepare_to_encode() -> None:
    """Imports flatbuffers, and with it NumPy if installed, so that the first `encode` is fast.

    A starting daemon serves gets before it calls this.
    """
    encode(Envelope())


def decode(record: bytes) -> Envelope:
    """Decodes a record. Raises `CorruptRecordError` unless it is complete.

    kekd's records have a checksum, so any change is detected. CyborgDB's have none: damage to the
    structure is detected, damage inside a value isn't.
    """
    return _decode_cached(record) if len(record) <= _MAX_CACHED_BYTES else _decode(record)


def _decode(record: bytes) -> Envelope:
    layout = _layouts.get(len(record))
    if layout is None or not layout.fits(record):
        layout = Layout(record)
        if len(_layouts) >= _MAX_LAYOUTS:
            _layouts.clear()  # one step, because several threads may be here
        _layouts[len(record)] = layout
    return layout.read(record)


# The same few records are decoded repeatedly. The cache takes a few MB at most.
_MAX_CACHED_BYTES: Final = 1024
_decode_cached = lru_cache(maxsize=8192)(_decode)


@lru_cache(_MAX_LAYOUTS)
def _build_layout(lengths: tuple[int, ...], has_version: bool, has_created_at: bool) -> Layout:  # noqa: FBT001
    """Builds a record with values of these lengths, and returns its layout."""
    # Imported here, because it takes a fifth of a daemon's start.
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
    # A value other than the default reserves space in the record.
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
