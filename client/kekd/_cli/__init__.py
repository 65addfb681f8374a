"""The `kekctl` command."""

import atexit
import gc
import os
from typing import Final

from kekd_common.deferred_modules import defer_modules

DEFERRED_MODULES: Final = (
    # imported by gRPC, for its asyncio API
    *("asyncio", "contextvars", "grpc.aio", "socket"),
    # imported by protobuf, for use without its C extension, for text and for timestamps
    *("google.protobuf.internal.python_message", "binascii"),
    *("google.protobuf.descriptor_database", "google.protobuf.text_encoding", "calendar"),
    "pkgutil",  # by gRPC, for its root certificates
    "traceback",  # by logging, for log lines with exceptions
    *("linecache", "token", "tokenize"),  # by inspect, for source code
    *("fnmatch", "ntpath"),  # by pathlib, for patterns and for Windows
    "ipaddress",  # by urllib.parse, for URLs with IPv6 addresses
    *("base64", "json"),  # by kekctl, for JSON
    "math",  # by kekctl, for durations
    *("kekd._transport.status", "select"),  # by the client, for errors
)
"""Modules that a `kekctl get` imports and doesn't use. They would take a third of its time."""


def main() -> None:
    """Runs the `kekctl` command."""
    # Most commands make little garbage, and collecting, also at the end, would take a seventh of
    # the time of a get.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    # The errors of kekctl say what the lines of gRPC's core say, and no program could parse both.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    defer_modules(DEFERRED_MODULES)
    # Imported here, after the steps above.
    from kekd._cli.common import main as command  # noqa: PLC0415

    command()
