"""The store of an envelope, with the shape of cyborgdb_core 0.18."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kekd._models.s3_credentials import S3Credentials


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
        credentials: "S3Credentials | None" = None,  # noqa: ARG003
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
