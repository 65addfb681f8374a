"""Where the daemon listens and the client looks when nobody said where."""

import os
from pathlib import Path
from typing import Final

import platformdirs

DEFAULT_TCP_PORT: Final = 7535


def default_socket() -> Path:
    """`kekd/kekd.sock` in XDG_RUNTIME_DIR; where there is none, in the user's state folder.

    Both are the user's own. /tmp, which platformdirs falls back to, is everybody's.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime, "kekd") if runtime else platformdirs.user_state_path("kekd")
    return folder / "kekd.sock"
