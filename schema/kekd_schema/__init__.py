"""The stored record of an envelope, byte-compatible with CyborgDB 0.18."""

from kekd_schema.codec import CorruptRecordError, decode, encode, prepare_to_encode
from kekd_schema.envelope import Envelope

__all__ = ["CorruptRecordError", "Envelope", "decode", "encode", "prepare_to_encode"]
