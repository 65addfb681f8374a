"""The daemon, which isn't a library: run `kekd`, and call it through `import kekd`."""

import gc
import os
import sys
from typing import Final

from kekd_common.deferred_modules import defer_modules
from kekd_common.install import install_command

DEFERRED_MODULES: Final = (
    # imported by protobuf, for use without its C extension, and for text
    "google.protobuf.internal.python_message",
    *("google.protobuf.descriptor_database", "google.protobuf.text_encoding"),
    "google.protobuf.descriptor_pb2",  # by the daemon, for reflection
    *("csv", "zipfile"),  # by importlib.metadata, which pydantic imports to find plugins
    *("html", "mimetypes"),  # by http.server, which prometheus-client imports
    *("glob", "gzip", "mmap"),  # by prometheus-client, for several processes and for compression
    "calendar",  # by email, which http.client imports
    *("bz2", "lzma"),  # by shutil, for archives
    "ntpath",  # by pathlib, for Windows
    "pickle",  # by logging, to send log lines to other machines
    "pkgutil",  # by gRPC, for its root certificates
)
"""Modules that the start of the daemon imports and doesn't use."""


def main() -> None:
    """Runs the `kekd` command, or says which extra to install."""
    _require_linux(sys.platform)
    from kekd_server.process import early_signals  # noqa: PLC0415  (it may need Linux)

    # The start makes no garbage, and collecting would take a tenth of its time.
    gc.disable()
    # Pydantic would search all installed packages for plugins, which takes another tenth.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    defer_modules(DEFERRED_MODULES)
    # Before the imports below, which take most of the start's time.
    early_signals.exit_on_signal()
    early_signals.ignore_hangup()
    try:
        from kekd_server.command import main as command  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"kekd: {error}: the daemon isn't installed; run {install_command('server')}")
    command()


def _require_linux(platform: str) -> None:
    if platform != "linux":
        sys.exit(
            f"kekd: cannot run the daemon on {platform}: it needs Linux; run it on Linux or in a"
            " container, and call it from here with kekctl or import kekd"
        )
