"""Completes the names of indexes in a shell."""

import re
import warnings
from collections.abc import Iterable
from itertools import islice
from typing import Final

import click

_MAX_NAMES: Final = 100
_TIMEOUT: Final = 1.0
"""Seconds for which a shell waits at most for a daemon that doesn't answer."""
_SAFE_NAME: Final = re.compile(r"[\w/.@][\w/.@%+,:=-]*")
"""Shells insert a completion without quotes: another name could run a command."""


def complete_index(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Asks the daemon that the other options select. Returns nothing if that fails, because a
    completion has no place for an error.
    """
    try:
        return [name for name in _list_names(context, incomplete) if _SAFE_NAME.fullmatch(name)]
    except Exception:  # noqa: BLE001
        return []


def _list_names(context: click.Context, prefix: str) -> Iterable[str]:
    # Imported here, because nothing else that is completed calls a daemon.
    from kekd._cli.common import open_client  # noqa: PLC0415

    warnings.simplefilter("ignore")
    client = open_client(context)
    names = client.list_index_kms(context.params.get("store"), prefix, timeout=_TIMEOUT)
    return list(islice(names, _MAX_NAMES))
