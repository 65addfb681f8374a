"""The daemon, which isn't a library: run `kekd`, and call it through `import kekd`."""

import gc
import os
import sys

from kekd_server.process import early_signals


def main() -> None:
    """Runs the `kekd` command, or says which extra to install."""
    # The start makes no garbage, and collecting would take a tenth of its time.
    gc.disable()
    # Pydantic would search all installed packages for plugins, which takes another tenth.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Before the imports below, which take most of the start's time.
    early_signals.exit_on_signal()
    early_signals.ignore_hangup()
    try:
        from kekd_server.__main__ import main as command  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"kekd: {error}; install the daemon's extra: pip install 'kekd[server]'")
    command()
