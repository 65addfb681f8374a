"""The daemon, which isn't a library: run `kekd`, and call it through `import kekd`."""

import gc
import os
import sys

from kekd_common.install import install_command


def main() -> None:
    """Runs the `kekd` command, or says which extra to install."""
    _require_linux(sys.platform)
    from kekd_server.process import early_signals  # noqa: PLC0415  (it may need Linux)

    # The start makes no garbage, and collecting would take a tenth of its time.
    gc.disable()
    # Pydantic would search all installed packages for plugins, which takes another tenth.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
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
