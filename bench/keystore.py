"""Writes keystore folders without a daemon."""

from pathlib import Path

from kekd import KMSBlob
from kekd_schema import Envelope, encode
from kekd_server.storage.disk import layout
from kekd_server.storage.etag import etag_of
from kekd_server.storage.history.version import VersionEvent
from kekd_server.storage.history.version_file import VersionFile

_ACCOUNT_KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_WRAPPED_BYTES = 184
"""The size of kms.Encrypt's output for a 32-byte key."""


def name_of(number: int) -> str:
    return f"tenant-{number:06}"


def envelope_of(number: int) -> Envelope:
    """Makes an envelope of realistic size. Each number has other content, so nothing is shared."""
    return Envelope(
        kms_name="prod-kms",
        provider="aws-kms",
        key_id=_ACCOUNT_KEY,
        region="us-east-1",
        wrapped_kek=number.to_bytes(4) * (_WRAPPED_BYTES // 4),
        version=1,  # cyborgdb_core reads no other
        created_at=1_700_000_000 + number,
    )


def blob_of(number: int) -> KMSBlob:
    """Makes the same envelope in the client's type."""
    envelope = envelope_of(number)
    return KMSBlob(
        envelope.kms_name,
        envelope.provider,
        envelope.key_id,
        envelope.region,
        envelope.wrapped_kek,
        envelope.version,
        envelope.created_at,
    )


def path_of(root: Path, number: int) -> Path:
    return root / "_catalog" / "config" / f"{name_of(number)}.kms.cat"


def fill(root: Path, envelopes: int, *, with_versions: bool = True) -> Path:
    """Creates the folder `root` with envelopes 0 to `envelopes` - 1, and returns it.
    `with_versions`: also makes a version of each. Otherwise, the daemon makes them, maybe while it
    is measured.
    """
    history = root / layout.HISTORY
    for folder in (path_of(root, 0).parent, history):
        folder.mkdir(mode=0o700, parents=True)
    for number in range(envelopes):
        path, record = path_of(root, number), encode(envelope_of(number))
        path.write_bytes(record)
        if with_versions:
            version = VersionFile.after(None, VersionEvent.CREATED, etag_of(record), "")
            (history / path.name).mkdir()
            (history / path.name / version.name).hardlink_to(path)
    return root
