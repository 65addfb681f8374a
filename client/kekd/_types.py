"""The values that callers hold, shaped as cyborgdb_core 0.18 has them."""

from dataclasses import dataclass, field


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

        Region and endpoint must be the daemon's where they are given, and need only be given where
        several of its stores have this bucket and prefix. The credentials stay here.
        """
        return cls("s3", bucket=bucket, prefix=prefix, region=region, endpoint=endpoint)
