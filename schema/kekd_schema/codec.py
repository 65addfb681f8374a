"""Envelope to stored record and back; the only module that knows the record is a FlatBuffer.

The record is described in `schema/kms_blob.fbs`. Its first seven fields are CyborgDB's, and kekd
reads whatever CyborgDB writes there and the other way round.

The FlatBuffers runtime for Python has no verifier: given damaged bytes it reads out of bounds,
raises at random, or answers with the wrong field. So `decode` doesn't use it. It walks the buffer
itself and believes it only if every byte is accounted for (see `_Record`).
"""

import struct
import zlib
from functools import lru_cache
from typing import Final

import flatbuffers

from kekd_schema import kms_blob_generated as fbs
from kekd_schema.envelope import Envelope

_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_I32: Final = struct.Struct("<i")
_I64: Final = struct.Struct("<q")

# Position of each field in the table, as the schema orders them.
_KMS_NAME, _PROVIDER, _KEY_ID, _REGION, _WRAPPED_KEK, _VERSION, _CREATED_AT = range(7)
_KEY_ARN, _BINDING, _CHECKSUM = range(7, 10)
_WIDTHS: Final = (4, 4, 4, 4, 4, 4, 8, 4, 4, 4)
"""Bytes that each field takes in the table: an offset, a uint32 or an int64."""

_MOST_PADDING: Final = 7
"""The widest scalar is 8 bytes, so aligning one never skips more than this."""


class CorruptRecordError(ValueError):
    """A stored record isn't one that CyborgDB or kekd can have written.

    The message says which rule was broken, never what the bytes were.
    """


def encode(envelope: Envelope) -> bytes:
    """The record to store for `envelope`: deterministic, and closed by a checksum."""
    builder = flatbuffers.Builder(256 + len(envelope.wrapped_kek))
    kms_name = builder.CreateString(envelope.kms_name)
    provider = builder.CreateString(envelope.provider)
    key_id = builder.CreateString(envelope.key_id)
    region = builder.CreateString(envelope.region)
    wrapped_kek = builder.CreateByteVector(envelope.wrapped_kek)
    key_arn = builder.CreateString(envelope.key_arn) if envelope.key_arn else 0
    binding = builder.CreateString(envelope.binding) if envelope.binding else 0
    fbs.KMSBlobStart(builder)
    fbs.KMSBlobAddCreatedAt(builder, envelope.created_at)
    fbs.KMSBlobAddKmsName(builder, kms_name)
    fbs.KMSBlobAddProvider(builder, provider)
    fbs.KMSBlobAddKeyId(builder, key_id)
    fbs.KMSBlobAddRegion(builder, region)
    fbs.KMSBlobAddWrappedKek(builder, wrapped_kek)
    fbs.KMSBlobAddVersion(builder, envelope.version)
    fbs.KMSBlobAddKeyArn(builder, key_arn)
    fbs.KMSBlobAddBinding(builder, binding)
    # Any value but the default keeps a place for it; the real one is only known at the end.
    fbs.KMSBlobAddChecksum(builder, 1)
    builder.Finish(fbs.KMSBlobEnd(builder))
    record = builder.Output()
    at = _Record(bytes(record)).slots[_CHECKSUM]
    _U32.pack_into(record, at, _checksum(record, at))
    return bytes(record)


def decode(record: bytes) -> Envelope:
    """The envelope in `record`.

    Raises `CorruptRecordError` for anything else than a whole record. A record that kekd wrote is
    covered by its checksum: no change to it goes unnoticed. One that CyborgDB wrote has none:
    damage to its structure is noticed, damage inside a value is not.
    """
    return _remembered(record) if len(record) <= _SMALL else _checked(record)


def _checked(record: bytes) -> Envelope:
    try:
        return _Record(record).envelope()
    except (struct.error, UnicodeDecodeError):
        # Without its context: an offset is harmless, but UnicodeDecodeError carries the bytes.
        raise CorruptRecordError("a value is cut short or isn't UTF-8") from None


# Checking takes longer than reading the file, the same few bytes are read again and again, and the
# answer depends on nothing but the bytes. So it is remembered, in a few MB at the most.
_SMALL: Final = 1024
_remembered = lru_cache(maxsize=8192)(_checked)


def _checksum(record: bytes | bytearray, at: int) -> int:
    """CRC-32 of the record with the four bytes at `at` taken as zero."""
    crc = zlib.crc32(b"\0\0\0\0", zlib.crc32(record[:at]))
    return zlib.crc32(record[at + 4 :], crc)


class _Record:
    """A FlatBuffer with one table, checked while it is read.

    Everything that is read is noted as a region of the buffer. In a record that a FlatBuffers
    builder wrote, two regions are either the same (a shared string) or disjoint, and what lies
    between them is zeros to align the next one. Checking just that catches what bounds checks
    alone don't: a field that points at another field's value, or one that was cut off the end of
    the vtable.
    """

    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._regions = [(0, 4)]
        table = self._u32(0)
        vtable = table - self._read(_I32, table, "the table")
        vtable_size = self._read(_U16, vtable, "the vtable")
        table_size = self._read(_U16, vtable + 2, "the vtable")
        _require(table + table_size <= len(buffer), "the table reaches past the end")
        count, odd = divmod(vtable_size - 4, 2)
        _require(count >= 0 and not odd, "the vtable has no valid size")
        entries = struct.unpack_from(f"<{count}H", buffer, vtable + 4)
        self._regions += [(vtable, vtable + vtable_size), (table, table + 4)]
        self.slots: dict[int, int] = {}
        for field, (entry, width) in enumerate(zip(entries, _WIDTHS, strict=False)):
            if entry:
                _require(entry + width <= table_size, "a field lies outside the table")
                _require((table + entry) % width == 0, "a field isn't aligned")
                self.slots[field] = table + entry
                self._regions.append((table + entry, table + entry + width))
        self._appended = any(entries[len(_WIDTHS) :])

    def envelope(self) -> Envelope:
        envelope = Envelope(
            kms_name=self._string(_KMS_NAME),
            provider=self._string(_PROVIDER),
            key_id=self._string(_KEY_ID),
            region=self._string(_REGION),
            wrapped_kek=self._bytes(_WRAPPED_KEK),
            version=self._scalar(_U32, _VERSION),
            created_at=self._scalar(_I64, _CREATED_AT),
            key_arn=self._string(_KEY_ARN),
            binding=self._string(_BINDING),
        )
        self._account_for_every_byte()
        if (at := self.slots.get(_CHECKSUM)) is not None:
            _require(self._u32(at) == _checksum(self._buffer, at), "the checksum doesn't match")
        return envelope

    def _account_for_every_byte(self) -> None:
        end, last = 0, (0, 0)
        for region in sorted(self._regions):
            if region != last:
                self._check_gap(end, region[0])
                end, last = region[1], region
        self._check_gap(end, len(self._buffer))

    def _check_gap(self, start: int, stop: int) -> None:
        _require(start <= stop, "two values overlap")
        # A field appended by a later version is somewhere in the gaps; its type isn't known here.
        if start < stop and not self._appended:
            padding = stop - start <= _MOST_PADDING and not any(self._buffer[start:stop])
            _require(padding, "bytes that belong to no field")

    def _string(self, field: int) -> str:
        start, end = self._vector(field, terminator=1)
        return str(self._buffer[start:end], "utf-8")

    def _bytes(self, field: int) -> bytes:
        start, end = self._vector(field, terminator=0)
        return self._buffer[start:end]

    def _vector(self, field: int, *, terminator: int) -> tuple[int, int]:
        slot = self.slots.get(field)
        if slot is None:
            return 0, 0
        offset = self._u32(slot)
        start = slot + offset
        _require(offset > 0 and start % 4 == 0, "a value isn't aligned")
        end = start + 4 + self._u32(start)
        _require(end + terminator <= len(self._buffer), "a value reaches past the end")
        _require(not any(self._buffer[end : end + terminator]), "a string isn't terminated")
        self._regions.append((start, end + terminator))
        return start + 4, end

    def _scalar(self, kind: struct.Struct, field: int) -> int:
        slot = self.slots.get(field)
        return 0 if slot is None else self._read(kind, slot, "a field")

    def _u32(self, at: int) -> int:
        return self._read(_U32, at, "an offset")

    def _read(self, kind: struct.Struct, at: int, what: str) -> int:
        # struct takes a negative offset from the end, so only the upper bound is its to check.
        if at < 0:
            raise CorruptRecordError(f"{what} lies before the start")
        value: int = kind.unpack_from(self._buffer, at)[0]
        return value


def _require(held: bool, broken: str) -> None:  # noqa: FBT001  (reads as an assertion)
    if not held:
        raise CorruptRecordError(broken)
