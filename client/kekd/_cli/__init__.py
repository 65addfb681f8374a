"""The `kekctl` command."""

import atexit
import gc
import os
import sys
from typing import Final

from kekd_common.deferred_modules import defer_modules

_DEFERRED_MODULES: Final = (
    *("asyncio", "grpc.aio", "socket"),  # imported by gRPC, for its asyncio API
    "google.protobuf.internal.python_message",  # by protobuf, for use without its C extension
    "calendar",  # by protobuf, for timestamps
    "pkgutil",  # by gRPC, for its root certificates
    "traceback",  # by logging, for log lines with exceptions
    "tokenize",  # by inspect, for source code
    "ipaddress",  # by urllib.parse, for URLs with IPv6 addresses
    *("base64", "json"),  # by kekctl, for JSON
)
"""Modules that a `kekctl get` imports and doesn't use. They would take a third of its time."""

_OPTIONAL_MODULES: Final = ("grpc_reflection", "grpc_tools")
"""gRPC imports these if they are installed, for programs that expect them in `grpc`."""


def main() -> None:
    """Runs the `kekctl` command."""
    # Most commands make little garbage, and collecting, also at the end, would take a seventh of
    # the time of a get.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    # The errors of kekctl say what the lines of gRPC's core say, and no program could parse both.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    defer_modules(_DEFERRED_MODULES)
    for name in _OPTIONAL_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # counts as not installed
    # Imported here, after the steps above.
    from kekd._cli.common import main as command  # noqa: PLC0415

    command()
