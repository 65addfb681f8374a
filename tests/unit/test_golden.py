"""Compares the codec with cyborgdb_core, on intact and damaged records of cyborgdb_core."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import cyborgdb_core
import pytest

from kekd_schema import CorruptRecordError, Envelope, decode, encode
from tests.vectors import make_records
from tests.vectors.make_records import values

COMMITTED: Final = json.loads(make_records.PATH.read_text())
RECORDS: Final = {golden["name"]: bytes.fromhex(golden["record"]) for golden in COMMITTED}
ENVELOPES: Final = {
    golden["name"]: Envelope(
        **golden["envelope"] | {"wrapped_kek": bytes.fromhex(golden["envelope"]["wrapped_kek"])}
    )
    for golden in COMMITTED
}

Read = Callable[[bytes], Any]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    """Makes cyborgdb_core read a record. Returns the seven values, or the text of its error."""
    config = cyborgdb_core.StorageConfig.disk(str(tmp_path))
    cyborgdb_core.push_index_kms(config, "index", cyborgdb_core.KMSBlob())
    # Kept open, as opening it for each of thousands of records takes most of the time.
    with (tmp_path / "_catalog/config/index.kms.cat").open("r+b", buffering=0) as file:

        def read(record: bytes) -> Any:
            os.pwrite(file.fileno(), record, 0)
            file.truncate(len(record))
            try:
                return values(cyborgdb_core.get_index_kms(config, "index"))
            except ValueError as error:
                return str(error)

        yield read


def due(envelope: Envelope) -> Any:
    """Returns what cyborgdb_core reads from an intact record: the values, or an error."""
    return values(envelope) if envelope.version == 1 else "KMS blob has unsupported schema version."


def damaged(record: bytes) -> Iterator[bytes]:
    """Yields every truncation, and every change of one byte."""
    truncated = (record[:size] for size in range(len(record)))
    mutated = (
        record[:at] + bytes([value]) + record[at + 1 :]
        for at in range(len(record))
        for value in range(256)
        if value != record[at]
    )
    return chain(truncated, mutated)


def test_committed_records_equal_those_of_cyborgdb() -> None:
    assert make_records.make() == COMMITTED


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_cyborgdb_are_decoded(name: str) -> None:
    assert decode(RECORDS[name]) == ENVELOPES[name]


@pytest.mark.parametrize("own", [{}, {"key_arn": "arn:aws:kms:é"}, {"binding": "tenant=a"}])
@pytest.mark.parametrize("name", ENVELOPES)
def test_records_of_kekd_are_read_by_cyborgdb(name: str, own: Any, read: Read) -> None:
    envelope = replace(ENVELOPES[name], **own)
    assert read(encode(envelope)) == due(envelope)


@pytest.mark.parametrize("name", ["defaults", "full"])
def test_damaged_record_is_refused_or_read_as_cyborgdb_reads_it(name: str, read: Read) -> None:
    differing = []
    for record in damaged(RECORDS[name]):
        try:
            envelope = decode(record)
        except CorruptRecordError:
            continue  # kekd may be stricter than cyborgdb_core
        if read(record) != due(envelope):
            differing.append(record.hex())
    assert not differing
