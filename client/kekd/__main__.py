"""Runs the daemon, as the command `kekd` does: `python -m kekd`."""

from kekd_server import main

main()
