"""The names of the gRPC server implementations."""

from collections.abc import Callable
from typing import Literal, TypeAlias

EngineName: TypeAlias = Literal["auto", "grpcio", "native"]
"""The gRPC server implementation of a listener; `auto` takes native for TCP if it is installed."""

AddPort: TypeAlias = Callable[[str], int]
"""A server's own method to listen on an address in gRPC's spelling, which is ours."""
