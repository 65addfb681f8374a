"""The authenticated identity behind a call."""

from collections.abc import Callable


def _never_expires() -> None:
    pass


class Principal:
    __slots__ = ("identity", "is_local", "require_unexpired")

    def __init__(
        self,
        identity: str,
        *,
        is_local: bool,
        require_unexpired: Callable[[], None] = _never_expires,
    ) -> None:
        """`is_local`: the call came through a listener that only this machine can reach."""
        self.identity = identity
        self.is_local = is_local
        self.require_unexpired = require_unexpired
        """Raises `UnauthenticatedError` once the identity has expired."""
