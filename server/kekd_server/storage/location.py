"""Where a store is: what a request names, and what the daemon was given, in one form."""

import os.path
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MemoryLocation:
    def __str__(self) -> str:
        return "memory"

    def admits(self, asked: "Location") -> bool:
        return isinstance(asked, MemoryLocation)


@dataclass(frozen=True, slots=True)
class DiskLocation:
    path: str
    alias: str = field(default="", compare=False)
    """Another path to the same folder: of a configured one, where its links lead."""

    def __str__(self) -> str:
        return f"disk:{self.path}"

    def admits(self, asked: "Location") -> bool:
        """Compares text alone: a path that a caller chose never reaches the filesystem."""
        return isinstance(asked, DiskLocation) and os.path.normpath(asked.path) in (
            os.path.normpath(self.path),
            self.alias,
        )


@dataclass(frozen=True, slots=True)
class S3Location:
    bucket: str
    prefix: str = ""
    """Cleaned of slashes that mean nothing."""
    region: str | None = None
    endpoint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", clean_prefix(self.prefix))
        object.__setattr__(self, "endpoint", self.endpoint and self.endpoint.rstrip("/"))

    def __str__(self) -> str:
        return f"s3:{self.bucket}/{self.prefix}".rstrip("/")

    def admits(self, asked: "Location") -> bool:
        return (
            isinstance(asked, S3Location)
            and (asked.bucket, asked.prefix) == (self.bucket, self.prefix)
            and asked.region in (None, self.region)
            and asked.endpoint in (None, self.endpoint)
        )


def clean_prefix(prefix: str) -> str:
    """Without slashes at its ends or doubled ones, which is where CyborgDB 0.18 writes."""
    return "/".join(filter(None, prefix.split("/")))


Location = MemoryLocation | DiskLocation | S3Location
