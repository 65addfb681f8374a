"""The stored record of an envelope, byte-compatible with CyborgDB 0.18."""

from kekd_schema.codec import CorruptRecordError, decode, encode, prepare_to_encode
from kekd_schema.envelope import FIELDS, TEXT_FIELDS, Envelope

__all__ = [
    "FIELDS",
    "TEXT_FIELDS",
    "CorruptRecordError",
    "Envelope",
    "decode",
    "encode",
    "prepare_to_encode",
]
