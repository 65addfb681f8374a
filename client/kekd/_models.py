"""The values that callers hold, shaped as cyborgdb_core 0.18 has them."""

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from kekd.errors import EnvelopeError


@dataclass(slots=True)
class KMSBlob:
    """The envelope of one index: how its key-encryption key (KEK) is wrapped.

    Mutable, and equal to another with the same values. The wrapped KEK is left out of the repr.
    """

    kms_name: str = ""
    """Slot of the caller's KMS registry."""
    provider: str = ""
    """`aws`, `aws-kms` or `none`."""
    key_id: str = ""
    """Key id, ARN, alias or secret id, as the provider understands it."""
    region: str = ""
    wrapped_kek: bytes = field(default=b"", repr=False)
    """The KEK encrypted by the provider, at most 6144 bytes; empty for provider `none`."""
    version: int = 1
    """1 to 2**32 - 1; count it up at each rotation."""
    created_at: int = 0
    """Seconds since the Unix epoch; 0 if unknown."""
    key_arn: str = field(default="", kw_only=True)
    """ARN of the KMS key that wrapped the KEK, where `key_id` is an alias."""
    binding: str = field(default="", kw_only=True)
    """What the wrapped KEK is bound to, where its provider was told to bind it."""
    etag: str = field(default="", init=False, compare=False)
    """Of the stored envelope that this was read from: pass it as `if_etag` when you push it back.
    Not a part of the value; empty for an envelope that wasn't read."""
    store: str = field(default="", init=False, compare=False)
    """The daemon's name for the store that this was read from. Not a part of the value either."""


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Accepted for parity with cyborgdb_core, and never sent: the daemon uses its own."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """Names one of the daemon's stores. Made by `memory`, `disk` or `s3`; immutable."""

    kind: str
    path: str = ""
    bucket: str = ""
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None

    @classmethod
    def memory(cls) -> "StorageConfig":
        """The daemon's memory store."""
        return cls("memory")

    @classmethod
    def disk(
        cls,
        path: str,
        *,
        cache_vectors: bool = False,  # noqa: ARG003
        cache_metadata: bool = False,  # noqa: ARG003
        cache_ids: bool = False,  # noqa: ARG003
        cache_metadata_index: bool = False,  # noqa: ARG003
    ) -> "StorageConfig":
        """A keystore folder on the daemon's disk, by its absolute path there.

        The cache flags are cyborgdb_core's; they mean nothing to envelopes.
        """
        return cls("disk", path=path)

    @classmethod
    def s3(
        cls,
        bucket: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        prefix: str = "",
        credentials: S3Credentials | None = None,  # noqa: ARG003
    ) -> "StorageConfig":
        """A bucket, or a prefix in one.

        Region and endpoint needn't be given; where they are, they must be the daemon's. The
        credentials stay here.
        """
        return cls("s3", bucket=bucket, prefix=prefix, region=region, endpoint=endpoint)

    @classmethod
    def named(cls, name: str) -> "StorageConfig":
        """A store by the name that the daemon has for it, in its log, its status and in errors.

        Raises ValueError unless it is memory, disk:PATH or s3:BUCKET[/PREFIX].
        """
        kind, _, rest = name.partition(":")
        if name == "memory":
            return cls.memory()
        if kind == "disk" and rest:
            return cls.disk(rest)
        if kind == "s3" and rest:
            bucket, _, prefix = rest.partition("/")
            return cls.s3(bucket, prefix=prefix)
        raise ValueError("write memory, disk:PATH or s3:BUCKET[/PREFIX]")

    def __str__(self) -> str:
        """That name."""
        match self.kind:
            case "disk":
                return f"disk:{self.path}"
            case "s3":
                return f"s3:{self.bucket}/{self.prefix}".rstrip("/")
            case _:
                return self.kind


@dataclass(frozen=True, slots=True)
class Change:
    """An envelope was written or removed.

    One change may be told twice, and of several to one envelope in short succession perhaps only
    the last.
    """

    index_name: str
    kind: Literal["created", "pushed", "deleted"]
    """What something else than a kekd daemon wrote counts as pushed."""
    etag: str
    """Of the envelope as it was found after the change; empty if there is none or it is damaged."""


@dataclass(frozen=True, slots=True)
class Resync:
    """Whatever was read before may be old: read again what you hold. From here on every change is
    told. Each watch begins with one.
    """


class EnvelopeLike(Protocol):
    """Any object with these attributes is an envelope: a `kekd.KMSBlob`, a `cyborgdb_core.KMSBlob`.

    `key_arn` and `binding` are taken where there are such.
    """

    kms_name: str
    provider: str
    key_id: str
    region: str
    wrapped_kek: bytes
    version: int
    created_at: int


Found: TypeAlias = tuple[str, KMSBlob | EnvelopeError]
"""An index name, and its envelope or what a get of it fails with."""

Push: TypeAlias = tuple[str, EnvelopeLike, str | None]
"""An index name, its envelope, and the etag of the one that it may replace, or None for any."""

Pushed: TypeAlias = tuple[str, str | EnvelopeError]
"""An index name, and the etag of its new envelope or what a push of it fails with."""

Event: TypeAlias = Change | Resync
"""What a watch tells."""
