"""Writes records.json: records that cyborgdb_core itself makes of some envelopes.

python -m tests.vectors.make_records
"""

import json
import tempfile
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import cyborgdb_core

PATH: Final = Path(__file__).with_name("records.json")

FIELDS: Final = (
    "kms_name",
    "provider",
    "key_id",
    "region",
    "wrapped_kek",
    "version",
    "created_at",
)
values: Final = attrgetter(*FIELDS)
"""Returns the seven values of a kekd or cyborgdb_core envelope."""

_FULL: Final = ("prod", "aws-kms", "alias/prod", "eu-central-1")

ENVELOPES: Final[dict[str, tuple[Any, ...]]] = {
    "defaults": (),
    # Zero is FlatBuffers' default, so the record omits both numbers.
    "version 0": ("", "", "", "", b"", 0),
    "full": (*_FULL, b"\1\2\3\xff\0", 1, 1_700_000_000),
    "version 7": (*_FULL, b"\1\2\3", 7),
    "highest version": (*_FULL, b"\1\2\3", 2**32 - 1),
    "before 1970": ("", "none", "", "", b"", 1, -1),
    "latest time": ("", "none", "", "", b"", 1, 2**63 - 1),
    "earliest time": ("", "none", "", "", b"", 1, -(2**63)),
    "non-ASCII": ("schlüssel", "日本語", "🔑", "a\0b", b"\xff"),
    "long strings": ("n" * 300, "p" * 255, "k" * 2048, "r" * 4000, b"\1"),
} | {
    # Around the alignment to four bytes; an AES-256-GCM and a KMS ciphertext; the longest.
    f"wrapped_kek of {size} bytes": (*_FULL, (bytes(range(256)) * 24)[:size])
    for size in (1, 3, 4, 5, 60, 184, 6144)
}


def make() -> list[dict[str, Any]]:
    """Makes the content of records.json, with the wrapped KEK and the record in hex."""
    with tempfile.TemporaryDirectory() as folder:
        config = cyborgdb_core.StorageConfig.disk(folder)
        record = Path(folder, "_catalog/config/index.kms.cat")
        made = []
        for name, arguments in ENVELOPES.items():
            blob = cyborgdb_core.KMSBlob(*arguments)
            cyborgdb_core.push_index_kms(config, "index", blob)
            envelope = dict(zip(FIELDS, values(blob), strict=True))
            envelope["wrapped_kek"] = blob.wrapped_kek.hex()
            made.append({"name": name, "envelope": envelope, "record": record.read_bytes().hex()})
        return made


if __name__ == "__main__":
    PATH.write_text(json.dumps(make(), indent=1, ensure_ascii=False) + "\n")
