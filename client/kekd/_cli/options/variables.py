"""Refuses misspelt variables, which kekctl would ignore."""

from collections.abc import Mapping
from typing import Final

import click

from kekd._cli.options.global_options import CONNECTION_OPTIONS
from kekd_common.suggestion import closest

_PREFIX: Final = "KEKD_"
_KNOWN: Final = {
    *(str(option.envvar) for option in CONNECTION_OPTIONS),
    "KEKD_AUDIT",
    "KEKD_CONFIG",
    "KEKD_REGISTRY",
}
_MIN_SIMILARITY: Final = 0.85
"""More than the daemon's own variables have, such as KEKD_TLS_KEY. Its container sets them for
kekctl, too."""


def require_known(environment: Mapping[str, str]) -> None:
    """Raises a usage error for a variable that is similar to one of kekctl. Ignores empty ones."""
    for name, value in environment.items():
        if not value or not name.startswith(_PREFIX) or name in _KNOWN:
            continue
        if match := closest(name, _KNOWN, _MIN_SIMILARITY):
            raise click.UsageError(
                f"{name} (from the environment): unknown variable; did you mean {match}? Correct or"
                " unset it"
            )
