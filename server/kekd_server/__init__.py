"""The daemon. Nothing in here is a library: run `kekd`, and call it through `import kekd`."""

import gc
import sys

from kekd_server.process import early_signals


def main() -> None:
    """The `kekd` command, or what to install where it is not."""
    # There is no garbage before it serves, and looking for some takes a tenth of its start.
    gc.disable()
    # Before the imports below, which take most of the start.
    early_signals.end_at_once()
    early_signals.ignore_hangup()
    try:
        from kekd_server.__main__ import main as command  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"kekd: {error}: the daemon needs its extra: pip install 'kekd[server]'")
    command()
