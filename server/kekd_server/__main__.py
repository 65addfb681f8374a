"""Runs the daemon, as the command `kekd` does: `python -m kekd_server`."""

import kekd_server

kekd_server.main()
