"""The positions of the values in a stored record, and the checks of its structure."""

import struct
import zlib
from typing import Final

from kekd_schema.envelope import FIELDS, VECTOR_FIELDS, Envelope

_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_I32: Final = struct.Struct("<i")
_I64: Final = struct.Struct("<q")

_RECORD_FIELDS: Final = (*FIELDS, "checksum")
"""The fields in the order of the schema."""
_WRAPPED_KEK: Final = _RECORD_FIELDS.index("wrapped_kek")
_VERSION: Final = _RECORD_FIELDS.index("version")
_CREATED_AT: Final = _RECORD_FIELDS.index("created_at")
_CHECKSUM: Final = _RECORD_FIELDS.index("checksum")
_VECTORS: Final = tuple(map(_RECORD_FIELDS.index, VECTOR_FIELDS))
_WIDTHS: Final = tuple(8 if field == _CREATED_AT else 4 for field in range(len(_RECORD_FIELDS)))
"""Bytes that each field takes in the table: an offset, a uint32 or an int64."""

_MAX_PADDING: Final = 7
"""The widest scalar has 8 bytes, so aligning one never skips more than this."""


class CorruptRecordError(ValueError):
    """Neither CyborgDB nor kekd can have written the record.

    The message says which rule it breaks, and never contains bytes of it.
    """


class Layout:
    """The structure that records share if they differ only in their values.

    It is made from one such record, a FlatBuffer with one table, and checks it. It notes every part
    that it reads as a region of the buffer. In a record that a FlatBuffers builder wrote, two
    regions are either the same (a shared string) or disjoint, and the bytes between them are zeros
    for alignment. Checking this finds errors that bounds checks don't find: a field that points at
    the value of another field, or a field that is missing at the end of the vtable.

    None of these checks depends on a value. So they hold for every record that has the same bytes
    outside the values. `fits` compares those bytes.
    """

    def __init__(self, record: bytes) -> None:
        """Raises `CorruptRecordError`."""
        self._record = record
        self._regions = [(0, 4)]
        self._slots: dict[int, int] = {}
        self._appended = False
        try:
            self._walk_table()
            self._spans = [self._span(field) for field in _VECTORS]
        except struct.error:
            raise CorruptRecordError("a value is cut short") from None
        self._account_for_every_byte()
        self._version = self._slots.get(_VERSION)
        self._created_at = self._slots.get(_CREATED_AT)
        self._checksum = self._slots.get(_CHECKSUM)
        self._mask = self._mask_of_structure()
        self._structure = int.from_bytes(record) & self._mask

    def fits(self, record: bytes) -> bool:
        """Returns whether a record of the same length has this layout."""
        return int.from_bytes(record) & self._mask == self._structure

    def read(self, record: bytes) -> Envelope:
        """Returns the envelope of a record that fits. Raises `CorruptRecordError`."""
        at = self._checksum
        if at is not None and _U32.unpack_from(record, at)[0] != _checksum(record, at):
            raise CorruptRecordError("the checksum doesn't match")
        values = [record[start:end] for start, end in self._spans]
        # Listed by hand, as a loop over the fields takes twice as long.
        kms_name, provider, key_id, region, wrapped_kek, key_arn, binding = values
        try:
            return Envelope(
                kms_name=kms_name.decode(),
                provider=provider.decode(),
                key_id=key_id.decode(),
                region=region.decode(),
                wrapped_kek=wrapped_kek,
                version=_scalar(_U32, record, self._version),
                created_at=_scalar(_I64, record, self._created_at),
                key_arn=key_arn.decode(),
                binding=binding.decode(),
            )
        except UnicodeDecodeError:
            # Without its context, which contains the bytes.
            raise CorruptRecordError("a text isn't UTF-8") from None

    def fill(self, values: tuple[bytes, ...], version: int, created_at: int) -> bytes:
        """Returns a record with these values. `values` have the order of `VECTOR_FIELDS` and
        the lengths of this layout. A scalar is written only if the layout has a slot for it.
        """
        record = bytearray(self._record)
        for (start, end), value in zip(self._spans, values, strict=True):
            record[start:end] = value
        if self._version is not None:
            _U32.pack_into(record, self._version, version)
        if self._created_at is not None:
            _I64.pack_into(record, self._created_at, created_at)
        if self._checksum is not None:
            _U32.pack_into(record, self._checksum, _checksum(record, self._checksum))
        return bytes(record)

    def _walk_table(self) -> None:
        table = self._u32(0)
        vtable = table - self._read(_I32, table, "the table")
        vtable_size = self._read(_U16, vtable, "the vtable")
        table_size = self._read(_U16, vtable + 2, "the vtable")
        _require(table + table_size <= len(self._record), "the table reaches past the end")
        count, odd = divmod(vtable_size - 4, 2)
        _require(count >= 0 and not odd, "the vtable has no valid size")
        entries = struct.unpack_from(f"<{count}H", self._record, vtable + 4)
        self._regions += [(vtable, vtable + vtable_size), (table, table + 4)]
        for field, (entry, width) in enumerate(zip(entries, _WIDTHS, strict=False)):
            if entry:
                _require(entry + width <= table_size, "a field lies outside the table")
                _require((table + entry) % width == 0, "a field isn't aligned")
                self._slots[field] = table + entry
                self._regions.append((table + entry, table + entry + width))
        self._appended = any(entries[len(_WIDTHS) :])

    def _span(self, field: int) -> tuple[int, int]:
        slot = self._slots.get(field)
        if slot is None:
            return 0, 0
        terminator = int(field != _WRAPPED_KEK)
        offset = self._u32(slot)
        start = slot + offset
        _require(offset > 0 and start % 4 == 0, "a value isn't aligned")
        end = start + 4 + self._u32(start)
        _require(end + terminator <= len(self._record), "a value reaches past the end")
        _require(not any(self._record[end : end + terminator]), "a string isn't terminated")
        self._regions.append((start, end + terminator))
        return start + 4, end

    def _account_for_every_byte(self) -> None:
        end, last = 0, (0, 0)
        for region in sorted(self._regions):
            if region != last:
                self._check_gap(end, region[0])
                end, last = region[1], region
        self._check_gap(end, len(self._record))

    def _check_gap(self, start: int, stop: int) -> None:
        _require(start <= stop, "two values overlap")
        # The gaps may hold a field that a later version appended, whose type is unknown here.
        if start < stop and not self._appended:
            padding = stop - start <= _MAX_PADDING and not any(self._record[start:stop])
            _require(padding, "bytes that belong to no field")

    def _mask_of_structure(self) -> int:
        mask = bytearray(b"\xff" * len(self._record))
        scalars = [
            (slot, slot + _WIDTHS[field])
            for field, slot in self._slots.items()
            if field not in _VECTORS
        ]
        for start, end in [*self._spans, *scalars]:
            mask[start:end] = bytes(end - start)
        return int.from_bytes(mask)

    def _u32(self, at: int) -> int:
        return self._read(_U32, at, "an offset")

    def _read(self, kind: struct.Struct, at: int, what: str) -> int:
        # struct checks only the upper bound: it takes a negative offset from the end.
        if at < 0:
            raise CorruptRecordError(f"{what} lies before the start")
        value: int = kind.unpack_from(self._record, at)[0]
        return value


def _scalar(kind: struct.Struct, record: bytes, at: int | None) -> int:
    value: int = 0 if at is None else kind.unpack_from(record, at)[0]
    return value


def _checksum(record: bytes | bytearray, at: int) -> int:
    """Returns the CRC-32 of the record, with zeros in place of the four bytes at `at`."""
    crc = zlib.crc32(b"\0\0\0\0", zlib.crc32(record[:at]))
    return zlib.crc32(record[at + 4 :], crc)


def _require(held: bool, broken: str) -> None:  # noqa: FBT001  (reads as an assertion)
    if not held:
        raise CorruptRecordError(broken)
