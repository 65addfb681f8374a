"""The event loop of the daemon."""

import asyncio
from collections.abc import Callable
from importlib.util import find_spec

from kekd_server.config.settings import Settings


def loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Returns uvloop's event loop for a daemon with a native listener, if uvloop is installed.
    Otherwise None, for asyncio's own.
    """
    if not any(listener.engine == "native" for listener in settings.listeners):
        return None
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415  (an extra)

    return uvloop.new_event_loop
