"""The daemon. Nothing in here is a library: run `kekd`, and call it through `import kekd`."""

import signal
import sys


def main() -> None:
    """The `kekd` command, or what to install where it is not."""
    # Until it listens for them: Ctrl-C ends it as SIGTERM does, and not with a traceback, and there
    # is nothing yet to read anew.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        from kekd_server.__main__ import main as command  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"kekd: {error}: the daemon needs its extra: pip install 'kekd[server]'")
    command()
