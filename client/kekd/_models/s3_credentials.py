"""Credentials for S3, with the shape of cyborgdb_core 0.18."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Accepted for compatibility with cyborgdb_core. Never sent: the daemon uses its own."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
