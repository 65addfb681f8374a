"""The names of the gRPC server implementations."""

from collections.abc import Callable
from typing import Literal, TypeAlias

EngineName: TypeAlias = Literal["auto", "grpcio", "native"]
"""The gRPC server implementation of a listener. See docs/decisions for `auto`."""

AddPort: TypeAlias = Callable[[str], int]
"""Makes a gRPC server listen on an address."""
