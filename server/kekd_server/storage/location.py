"""The location of a store, as a request names it and as the daemon is configured."""

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
"""Where an S3 request has the bucket: in the path, or in the host name. `auto` uses the path for a
configured endpoint, and botocore's choice for AWS.
"""


@dataclass(frozen=True, slots=True)
class MemoryLocation:
    def __str__(self) -> str:
        return "memory"

    def check_lengths(self) -> None:
        """There is nothing to check."""

    def matches(self, requested: "Location") -> bool:
        return isinstance(requested, MemoryLocation)


@dataclass(frozen=True, slots=True)
class DiskLocation:
    path: str
    alias: str = field(default="", compare=False)
    """Another path to the same folder: the target of its symlinks."""

    def __str__(self) -> str:
        return f"disk:{self.path}"

    def check_lengths(self) -> None:
        """Raises `InvalidRequestError` if the path is too long to exist."""
        _check_length("disk.path", self.path, MAX_PATH_BYTES)

    def matches(self, requested: "Location") -> bool:
        """Compares only text: a path from a request never reaches the filesystem."""
        return isinstance(requested, DiskLocation) and os.path.normpath(requested.path) in (
            os.path.normpath(self.path),
            self.alias,
        )


@dataclass(frozen=True, slots=True)
class S3Location:
    bucket: str
    prefix: str = ""
    """Without redundant slashes."""
    region: str | None = None
    endpoint: str | None = None
    addressing_style: AddressingStyle = field(default="auto", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", clean_prefix(self.prefix))
        object.__setattr__(self, "endpoint", self.endpoint and self.endpoint.rstrip("/"))

    def __str__(self) -> str:
        return f"s3:{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, path: str) -> str:
        """Returns the key of an object, given its path below the prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def check_lengths(self) -> None:
        """Raises `InvalidRequestError` if a part is too long to exist."""
        _check_length("s3.bucket", self.bucket, MAX_BUCKET_BYTES)
        _check_length("s3.prefix", self.prefix, MAX_PREFIX_BYTES)
        _check_length("s3.region", self.region or "", MAX_REGION_BYTES)
        _check_length("s3.endpoint", self.endpoint or "", MAX_ENDPOINT_BYTES)

    def matches(self, requested: "Location") -> bool:
        return (
            isinstance(requested, S3Location)
            and (requested.bucket, requested.prefix) == (self.bucket, self.prefix)
            and requested.region in (None, self.region)
            and requested.endpoint in (None, self.endpoint)
        )


def _check_length(field: str, text: str, limit: int) -> None:
    if (size := len(text.encode())) > limit:
        raise InvalidRequestError(
            f"invalid config_location: {field} has {size} bytes, and the limit is {limit}; name one"
            " of the daemon's stores, or omit config_location"
        )


def clean_prefix(prefix: str) -> str:
    """Removes slashes at the ends and double slashes, as CyborgDB 0.18 does."""
    return "/".join(filter(None, prefix.split("/")))


Location = MemoryLocation | DiskLocation | S3Location
