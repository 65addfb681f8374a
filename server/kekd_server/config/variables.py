"""Finds variables that look like settings and are none."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kekd_common.suggestion import closest
from kekd_server.config.flag import variable_name
from kekd_server.config.settings import Settings

_PREFIX: Final = "KEKD_"
_OTHERS: Final = {
    "KEKD_ADDRESS",
    "KEKD_CA",
    "KEKD_CERT",
    "KEKD_CONFIG",
    "KEKD_KEY",
    "KEKD_REGISTRY",
    "KEKD_SERVER_NAME",
}
"""What the client and kekctl read, and the variable of the file."""
_KUBERNETES: Final = re.compile(
    r"KEKD_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
"""Kubernetes sets these in every pod beside a Service named kekd or kekd-...
(https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)."""


def unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Yields a problem for each variable that has the prefix of settings and that nothing reads.

    Ignores case and empty values, as for settings.
    """
    known = _OTHERS | {variable_name(name) for name in Settings.model_fields}
    for name, value in environment.items():
        upper = name.upper()
        if not value or not upper.startswith(_PREFIX) or upper in known:
            continue
        if not _KUBERNETES.fullmatch(upper):
            yield f"{name} (from the environment): unknown variable; {_advice(upper, known)}"


def _advice(name: str, known: set[str]) -> str:
    match = closest(name, known)
    return f"did you mean {match}? Correct or unset it" if match else "unset it"
