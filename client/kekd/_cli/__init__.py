"""The `kekctl` command."""

import atexit
import gc
import os


def main() -> None:
    """Runs the `kekctl` command."""
    # Most commands make little garbage, and collecting, also at the end, would take a seventh of
    # the time of a get.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    # The errors of kekctl say what the lines of gRPC's core say, and no program could parse both.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imported here, after the collector was slowed down.
    from kekd._cli.common import main as command  # noqa: PLC0415

    command()
