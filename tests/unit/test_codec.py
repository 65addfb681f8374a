"""The record codec decodes the records that it encodes, and refuses all other bytes."""

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kekd_schema import CorruptRecordError, Envelope, decode, encode
from kekd_schema.codec import _decode, _layouts

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
envelopes = st.builds(
    Envelope,
    kms_name=texts,
    provider=texts,
    key_id=texts,
    region=texts,
    wrapped_kek=st.binary(max_size=300),
    version=st.integers(0, 2**32 - 1),
    created_at=st.integers(-(2**63), 2**63 - 1),
    key_arn=texts,
    binding=texts,
)
SMALL = Envelope(kms_name="k", provider="aws", key_id="id", wrapped_kek=b"\1\2\3\0", version=1)
FULL = Envelope(
    kms_name="prod-kms",
    provider="aws-kms",
    key_id="alias/prod",
    region="us-east-1",
    wrapped_kek=bytes(range(184)),
    version=2**32 - 1,
    created_at=1_700_000_000,
    key_arn="arn:aws:kms:us-east-1:111122223333:key/0",
    binding="index",
)


def decoded_or_refused(record: bytes) -> Envelope | None:
    """Any exception except `CorruptRecordError` fails the test."""
    try:
        return decode(record)
    except CorruptRecordError:
        return None


@given(envelopes)
def test_encoded_envelope_decodes_to_itself(envelope: Envelope) -> None:
    assert decode(encode(envelope)) == envelope


@given(envelopes)
def test_equal_envelopes_have_equal_records(envelope: Envelope) -> None:
    assert encode(decode(encode(envelope))) == encode(envelope)


@pytest.mark.parametrize("envelope", [Envelope(), SMALL, FULL])
def test_change_of_one_byte_is_detected(envelope: Envelope) -> None:
    record = encode(envelope)
    for at in range(len(record)):
        for value in range(256):
            mutated = record[:at] + bytes([value]) + record[at + 1 :]
            assert decoded_or_refused(mutated) in (envelope, None)


@pytest.mark.parametrize("envelope", [Envelope(), SMALL, FULL])
def test_truncation_and_addition_are_detected(envelope: Envelope) -> None:
    record = encode(envelope)
    for length in range(len(record)):
        assert decoded_or_refused(record[:length]) is None
    for tail in (b"\1", b"\0" * 8, record):
        assert decoded_or_refused(record + tail) is None


@given(envelopes, st.data())
def test_change_of_several_bytes_is_detected(envelope: Envelope, data: st.DataObject) -> None:
    record = bytearray(encode(envelope))
    for at in data.draw(st.lists(st.integers(0, len(record) - 1), min_size=1, max_size=8)):
        record[at] = data.draw(st.integers(0, 255))
    assert decoded_or_refused(bytes(record)) in (envelope, None)


@given(st.binary(max_size=400))
@example(b"")
@example(b"\xff" * 64)
@settings(max_examples=1000)
def test_random_bytes_are_refused(noise: bytes) -> None:
    assert decoded_or_refused(noise) is None


def slots_of(record: bytes | bytearray) -> dict[int, int]:
    """Returns the positions of the fields' slots, from the definition of the format."""
    (table,) = struct.unpack_from("<I", record, 0)
    vtable = table - struct.unpack_from("<i", record, table)[0]
    (size,) = struct.unpack_from("<H", record, vtable)
    entries = struct.unpack_from(f"<{(size - 4) // 2}H", record, vtable + 4)
    return {field: table + entry for field, entry in enumerate(entries) if entry}


@pytest.mark.parametrize("offset", [0, 1, 2**31, 2**32 - 1, 0x7FFFFFFF, 0xFFFFFF00])
@pytest.mark.parametrize("field", range(5))
def test_hostile_offsets_are_refused(field: int, offset: int) -> None:
    record = bytearray(encode(FULL))
    struct.pack_into("<I", record, slots_of(record)[field], offset)
    assert decoded_or_refused(bytes(record)) is None


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**32 - 1])
def test_hostile_lengths_are_refused(length: int) -> None:
    record = bytearray(encode(FULL))
    slot = slots_of(record)[4]
    (offset,) = struct.unpack_from("<I", record, slot)
    struct.pack_into("<I", record, slot + offset, length)
    assert decoded_or_refused(bytes(record)) is None


def test_field_appended_by_a_later_version_is_ignored() -> None:
    # FULL's record with a copy of its vtable at the end, which has an eleventh entry.
    record = bytearray(encode(SMALL))
    (table,) = struct.unpack_from("<I", record, 0)
    vtable = table - struct.unpack_from("<i", record, table)[0]
    size, table_size = struct.unpack_from("<HH", record, vtable)
    entries = record[vtable + 4 : vtable + size]
    # Its checksum doesn't cover the field. Without a checksum, CyborgDB could have written it.
    entries[18:20] = b"\0\0"
    longer = struct.pack("<HH", size + 2, table_size) + entries + struct.pack("<H", 4)
    struct.pack_into("<i", record, table, table - len(record))
    assert decode(bytes(record + longer)) == SMALL


def without_checksum(record: bytes) -> bytearray:
    """A record that CyborgDB could have written."""
    bare = bytearray(record)
    (table,) = struct.unpack_from("<I", bare, 0)
    entry = table - struct.unpack_from("<i", bare, table)[0] + 4 + 2 * 9
    (slot,) = struct.unpack_from("<H", bare, entry)
    struct.pack_into("<H", bare, entry, 0)
    struct.pack_into("<I", bare, table + slot, 0)
    return bare


def test_error_contains_nothing_of_the_record() -> None:
    envelope = Envelope(kms_name="canary", provider="canary", wrapped_kek=b"canary")
    record = without_checksum(encode(envelope))
    assert decode(bytes(record)) == envelope
    record[record.rindex(b"canary")] = 0xFF
    with pytest.raises(CorruptRecordError, match="UTF-8") as caught:
        decode(bytes(record))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@given(envelopes, st.data())
def test_decoding_does_not_depend_on_records_read_before(
    envelope: Envelope, data: st.DataObject
) -> None:
    """A layout is cached by length, and the next record of that length may have another one."""

    def read(record: bytes) -> Envelope | None:
        try:
            return _decode(record)
        except CorruptRecordError:
            return None

    record = bytes(without_checksum(encode(envelope)))
    at = data.draw(st.integers(0, len(record) - 1))
    damaged = record[:at] + bytes([record[at] ^ data.draw(st.integers(1, 255))]) + record[at + 1 :]
    _layouts.clear()
    alone = read(damaged)
    assert read(record) == envelope
    assert read(damaged) == alone
    assert read(record) == envelope
