"""Every definition of the envelope has the same fields, in the same order."""

import dataclasses
import re
from pathlib import Path

import kekd
from kekd._models import EnvelopeLike
from kekd._transport import convert
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_schema import Envelope, decode, encode
from kekd_server.rpc import convert as server_convert

FIELDS = [field.name for field in dataclasses.fields(kekd.KMSBlob) if field.init]


def test_message_and_record_have_the_fields_of_the_blob() -> None:
    assert [field.name for field in pb.KMSBlob.DESCRIPTOR.fields] == FIELDS
    assert [field.name for field in dataclasses.fields(Envelope)] == FIELDS


def test_record_schema_has_the_fields_of_the_blob_and_a_checksum() -> None:
    schema = Path(__file__).parents[2] / "schema" / "kms_blob.fbs"
    names = re.findall(r"^  (\w+):", schema.read_text(), flags=re.MULTILINE)
    assert names == [*FIELDS, "checksum"]


def test_record_keeps_every_field() -> None:
    envelope = server_convert.parse_envelope(pb.PushEnvelopeRequest(blob=filled()))
    assert all(getattr(envelope, name) != getattr(Envelope(), name) for name in FIELDS)
    assert decode(encode(envelope)) == envelope


def test_required_attributes_are_those_of_cyborgdb_core() -> None:
    optional = {"key_arn", "binding"}
    assert list(EnvelopeLike.__annotations__) == [name for name in FIELDS if name not in optional]


def filled() -> pb.KMSBlob:
    """A message with another value in each field."""
    message = pb.KMSBlob(version=7, created_at=8, wrapped_kek=b"9")
    for name in set(FIELDS) - {"version", "created_at", "wrapped_kek"}:
        setattr(message, name, name)
    return message


def test_daemon_copies_every_field() -> None:
    message, copied = filled(), pb.KMSBlob()
    envelope = server_convert.parse_envelope(pb.PushEnvelopeRequest(blob=message))
    assert all(getattr(envelope, name) == getattr(message, name) for name in FIELDS)
    server_convert._fill(copied, envelope)
    assert copied == message


def test_client_copies_every_field() -> None:
    message = filled()
    blob = convert.parse_blob(message)
    assert all(getattr(blob, name) == getattr(message, name) for name in FIELDS)
    copied = pb.KMSBlob()
    convert.set_blob(copied, blob)
    assert copied == message
