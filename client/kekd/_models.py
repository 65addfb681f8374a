"""The values of the envelope API, with the shape of cyborgdb_core 0.18."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from kekd.errors import EnvelopeError


@dataclass(slots=True)
class KMSBlob:
    """The envelope of an index: its wrapped key-encryption key (KEK) and how to unwrap that.

    Mutable, and compared by value. The repr omits the wrapped KEK.
    """

    kms_name: str = ""
    """Name of a slot in the caller's KMS registry."""
    provider: str = ""
    """`aws`, `aws-kms` or `none`."""
    key_id: str = ""
    """Key id, ARN, alias or secret id, depending on the provider."""
    region: str = ""
    wrapped_kek: bytes = field(default=b"", repr=False)
    """The KEK, encrypted by the provider: at most 6144 bytes. Empty for provider `none`."""
    version: int = 1
    """1 to 2**32 - 1. Increment it at each rotation."""
    created_at: int = 0
    """Seconds since the Unix epoch, or 0 if unknown."""
    key_arn: str = field(default="", kw_only=True)
    """ARN of the KMS key that wrapped the KEK, if `key_id` is an alias."""
    binding: str = field(default="", kw_only=True)
    """The encryption context of the wrapped KEK, as JSON. Empty if the slot uses none."""
    etag: str = field(default="", init=False, compare=False)
    """Etag of the stored envelope. Pass it as `if_etag` when you push the envelope back. Empty
    unless the envelope was read from a daemon. Not part of the value."""
    store: str = field(default="", init=False, compare=False)
    """The daemon's name for the store of the envelope. Not part of the value either."""


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Accepted for compatibility with cyborgdb_core. Never sent: the daemon uses its own."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """Selects one of the daemon's stores. Create it with `memory`, `disk`, `s3` or `named`."""

    kind: str
    path: str = ""
    bucket: str = ""
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None

    @classmethod
    def memory(cls) -> "StorageConfig":
        """Selects the daemon's memory store."""
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
        """Selects a keystore folder by its absolute path on the daemon's disk.

        The cache flags exist for compatibility with cyborgdb_core and have no effect on envelopes.
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
        """Selects an S3 bucket, or a prefix in one.

        Region and endpoint are optional, but must match the daemon's if given. The credentials are
        never sent.
        """
        return cls("s3", bucket=bucket, prefix=prefix, region=region, endpoint=endpoint)

    @classmethod
    def named(cls, name: str) -> "StorageConfig":
        """Selects a store by the name that the daemon uses in its log, status and errors.

        Raises ValueError unless the name is memory, disk:PATH or s3:BUCKET[/PREFIX].
        """
        kind, _, rest = name.partition(":")
        if name == "memory":
            return cls.memory()
        if kind == "disk" and rest:
            return cls.disk(rest)
        if kind == "s3" and rest:
            bucket, _, prefix = rest.partition("/")
            return cls.s3(bucket, prefix=prefix)
        raise ValueError(
            f"invalid store name '{name}'; use memory, disk:PATH or s3:BUCKET[/PREFIX]"
        )

    def __str__(self) -> str:
        """Returns the store's name, as `named` accepts it."""
        match self.kind:
            case "disk":
                return f"disk:{self.path}"
            case "s3":
                return f"s3:{self.bucket}/{self.prefix}".rstrip("/")
            case _:
                return self.kind


class VersionEvent(StrEnum):
    """The cause of a version."""

    CREATED = "created"
    PUSHED = "pushed"
    RESTORED = "restored"
    UNDELETED = "undeleted"
    DELETED = "deleted"
    """The version is a deletion, and has no envelope."""
    FOUND = "found"
    """Another program than kekd wrote the envelope."""


@dataclass(frozen=True, slots=True)
class EnvelopeVersion:
    """An envelope that an index had, or the deletion of one."""

    version_id: str
    event: VersionEvent
    time: datetime
    """When it was written, or noticed if another program than kekd wrote it. Versions of an index
    have increasing times, even if a clock was set back."""
    caller: str
    """Identity of the caller that wrote it. Empty if it isn't known."""
    etag: str
    """Etag that the envelope had. Empty for a deletion."""
    size: int
    """Bytes of the stored record. 0 for a deletion."""
    blob: KMSBlob | None = None
    """The envelope, if it was requested. None for a deletion."""
    error: EnvelopeError | None = None
    """Why the envelope was requested and can't be read."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Protects an index: kekd changes neither its envelope nor its versions."""

    reason: str
    caller: str
    """Identity of the caller that placed it."""
    time: datetime


@dataclass(frozen=True, slots=True)
class DestroyedVersion:
    version_id: str
    """Empty for an envelope of a store without a history."""
    etag: str
    wrapped_kek_sha256: str
    """SHA-256 of the wrapped KEK, in hex. Empty if it had none, or its record was corrupt."""


@dataclass(frozen=True, slots=True)
class RemainingVersion:
    version_id: str
    reason: str
    """Why it is still there, and what to do."""


@dataclass(frozen=True, slots=True)
class DestructionReceipt:
    """The result of a destruction. The daemon's audit log has it too."""

    index_name: str
    store: str
    destroyed: tuple[DestroyedVersion, ...]
    """Removed by this call, newest first. Empty if there was nothing."""
    remaining: tuple[RemainingVersion, ...]
    """Still there when the daemon looked again."""
    unchecked: tuple[str, ...]
    """Places that the daemon can't see, where copies may be."""


ChangeKind: TypeAlias = Literal["created", "pushed", "restored", "undeleted", "deleted"]


@dataclass(frozen=True, slots=True)
class Change:
    """An envelope was created, pushed, restored, undeleted or deleted.

    A watch may report a change twice. It may merge several changes to one envelope into the last.
    """

    index_name: str
    kind: ChangeKind
    """Writes by programs other than kekd are reported as `pushed`."""
    etag: str
    """Etag of the envelope after the change. Empty if there is none or it is corrupt."""
    breaches_hold: bool = False
    """Whether another program than kekd made the change although the index is held."""


@dataclass(frozen=True, slots=True)
class Resync:
    """Changes may have been missed: read the envelopes that you hold again.

    The watch reports all later changes. Every watch starts with a `Resync`.
    """


class EnvelopeLike(Protocol):
    """Any object with these attributes, such as `kekd.KMSBlob` or `cyborgdb_core.KMSBlob`.

    `key_arn` and `binding` are optional.
    """

    kms_name: str
    provider: str
    key_id: str
    region: str
    wrapped_kek: bytes
    version: int
    created_at: int


GetResult: TypeAlias = tuple[str, KMSBlob | EnvelopeError]
"""An index name, and its envelope or the exception of a get."""

Push: TypeAlias = tuple[str, EnvelopeLike, str | None]
"""An index name, its new envelope, and the etag of the one to replace, or None for any."""

PushResult: TypeAlias = tuple[str, str | EnvelopeError]
"""An index name, and the etag of its new envelope or the exception of a push."""

Event: TypeAlias = Change | Resync
"""An event of a watch."""
