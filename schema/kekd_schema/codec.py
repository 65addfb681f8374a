"""Envelope to stored record and back; the only module that knows the record is a FlatBuffer.

The record is described in `schema/kms_blob.fbs`. Its first seven fields are CyborgDB's, and kekd
reads whatever CyborgDB writes there and the other way round.

The FlatBuffers runtime for Python has no verifier: given damaged bytes it reads out of bounds,
raises at random, or answers with the wrong field. So `decode` doesn't use it, and goes by `Layout`,
which believes a record only if every byte is accounted for. And it takes ten times as long as the
rest of a write to build a record field by field. So `encode` has it build one record of each
layout, and fills the values into a copy of that.
"""

from functools import lru_cache
from typing import Final

from kekd_schema.envelope import Envelope
from kekd_schema.layout import CorruptRecordError, Layout

__all__ = ["CorruptRecordError", "decode", "encode", "prepare_to_encode"]

_MOST_LAYOUTS: Final = 1024
"""Some 5 MB; the envelopes of a keystore have a handful."""

_layouts: dict[int, Layout] = {}
"""By length of the record, the one that was met last."""


def encode(envelope: Envelope) -> bytes:
    """The record to store for `envelope`: deterministic, and closed by a checksum."""
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
    layout = _built(tuple(map(len, values)), version != 0, created_at != 0)
    return layout.filled(values, version, created_at)


def prepare_to_encode() -> None:
    """Has the first `encode` take no longer than others: it imports flatbuffers, which imports
    NumPy where that is installed. A daemon that starts serves gets before.
    """
    encode(Envelope())


def decode(record: bytes) -> Envelope:
    """The envelope in `record`.

    Raises `CorruptRecordError` for anything else than a whole record. A record that kekd wrote is
    covered by its checksum: no change to it goes unnoticed. One that CyborgDB wrote has none:
    damage to its structure is noticed, damage inside a value is not.
    """
    return _remembered(record) if len(record) <= _SMALL else _decoded(record)


def _decoded(record: bytes) -> Envelope:
    layout = _layouts.get(len(record))
    if layout is None or not layout.fits(record):
        layout = Layout(record)
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()  # in one step, as several threads may be here
        _layouts[len(record)] = layout
    return layout.read(record)


# The same few bytes are read again and again, and the answer depends on nothing else. So it is
# remembered, in a few MB at the most.
_SMALL: Final = 1024
_remembered = lru_cache(maxsize=8192)(_decoded)


@lru_cache(_MOST_LAYOUTS)
def _built(lengths: tuple[int, ...], has_version: bool, has_created_at: bool) -> Layout:  # noqa: FBT001
    """The layout of records whose values have these lengths, as the generated code builds them."""
    # Imported here, as it takes a fifth of a daemon's start.
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
    # Any value but the default keeps a place for it.
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
