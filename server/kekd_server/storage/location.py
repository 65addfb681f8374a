"""Where a store is: what a request names, and what the daemon was given, in one form."""

import os.path
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kekd_common.limits import (
    MAX_BUCKET_BYTES,
    MAX_ENDPOINT_BYTES,
    MAX_PATH_BYTES,
    MAX_PREFIX_BYTES,
    MAX_REGION_BYTES,
)
from kekd_server.model.errors import InvalidRequestError

AddressingStyle: TypeAlias = Literal["auto", "path", "virtual"]
"""Where a request names its bucket: in the path, or as part of the host; `auto` is the path at an
endpoint that was given, and botocore's choice at AWS.
"""


@dataclass(frozen=True, slots=True)
class MemoryLocation:
    def __str__(self) -> str:
        return "memory"

    def check_lengths(self) -> None:
        """It has none."""

    def matches(self, asked: "Location") -> bool:
        return isinstance(asked, MemoryLocation)


@dataclass(frozen=True, slots=True)
class DiskLocation:
    path: str
    alias: str = field(default="", compare=False)
    """Another path to the same folder: of a configured one, where its links lead."""

    def __str__(self) -> str:
        return f"disk:{self.path}"

    def check_lengths(self) -> None:
        """Raises `InvalidRequestError` for a path that no system takes."""
        _check_length("disk.path", self.path, MAX_PATH_BYTES)

    def matches(self, asked: "Location") -> bool:
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
    addressing_style: AddressingStyle = field(default="auto", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", clean_prefix(self.prefix))
        object.__setattr__(self, "endpoint", self.endpoint and self.endpoint.rstrip("/"))

    def __str__(self) -> str:
        return f"s3:{self.bucket}/{self.prefix}".rstrip("/")

    def check_lengths(self) -> None:
        """Raises `InvalidRequestError` for what no bucket, key or URL can be."""
        _check_length("s3.bucket", self.bucket, MAX_BUCKET_BYTES)
        _check_length("s3.prefix", self.prefix, MAX_PREFIX_BYTES)
        _check_length("s3.region", self.region or "", MAX_REGION_BYTES)
        _check_length("s3.endpoint", self.endpoint or "", MAX_ENDPOINT_BYTES)

    def matches(self, asked: "Location") -> bool:
        return (
            isinstance(asked, S3Location)
            and (asked.bucket, asked.prefix) == (self.bucket, self.prefix)
            and asked.region in (None, self.region)
            and asked.endpoint in (None, self.endpoint)
        )


def _check_length(what: str, text: str, most: int) -> None:
    if (size := len(text.encode())) > most:
        raise InvalidRequestError(
            f"config_location can't exist: {what} has {size} bytes, and {most} is the most; name a"
            " store that the daemon has, or leave config_location out."
        )


def clean_prefix(prefix: str) -> str:
    """Without slashes at its ends or doubled ones, which is where CyborgDB 0.18 writes."""
    return "/".join(filter(None, prefix.split("/")))


Location = MemoryLocation | DiskLocation | S3Location
