"""Parses SPIFFE IDs (https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md).

A policy matches identities as text, so each workload must have exactly one spelling.
"""

import re
from collections.abc import Sequence
from typing import Final

_SCHEME: Final = "spiffe:"
_MAX_BYTES: Final = 2048
_MAX_TRUST_DOMAIN: Final = 255
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]+")
_SEGMENT: Final = re.compile(r"[a-zA-Z0-9._-]+")


class SpiffeIdError(ValueError):
    """The text is not a SPIFFE ID; the message says why."""


def spiffe_id(uris: Sequence[str]) -> str | None:
    """Returns the SPIFFE ID among the URIs of a certificate, or None if it isn't a SPIFFE
    certificate. Raises `SpiffeIdError` for a SPIFFE certificate that violates the specification.
    """
    found = next((uri for uri in uris if uri.lower().startswith(_SCHEME)), None)
    if found is None:
        return None
    if len(uris) > 1:
        raise SpiffeIdError(f"it has {len(uris)} URIs, and a SPIFFE certificate has exactly one")
    _check_workload_id(found)
    return found


def _check_workload_id(uri: str) -> None:
    """Raises `SpiffeIdError` if this can't be the ID of a workload."""
    if len(uri.encode()) > _MAX_BYTES:
        raise SpiffeIdError(f"the SPIFFE ID is longer than {_MAX_BYTES} bytes")
    if not uri.startswith("spiffe://"):
        raise SpiffeIdError("the SPIFFE ID doesn't begin with 'spiffe://' in lower case")
    trust_domain, slash, path = uri.removeprefix("spiffe://").partition("/")
    if not _TRUST_DOMAIN.fullmatch(trust_domain) or len(trust_domain) > _MAX_TRUST_DOMAIN:
        raise SpiffeIdError(
            "the trust domain of the SPIFFE ID isn't 1 to 255 lower-case letters, digits, dots,"
            " dashes and underscores"
        )
    if not slash:
        raise SpiffeIdError("the SPIFFE ID has no path, so it names no workload")
    for segment in path.split("/"):
        _check_segment(segment)


def _check_segment(segment: str) -> None:
    if segment in {"", ".", ".."}:
        raise SpiffeIdError(f"the path of the SPIFFE ID has the segment '{segment}'")
    if not _SEGMENT.fullmatch(segment):
        raise SpiffeIdError(
            "the path of the SPIFFE ID has other characters than letters, digits, dots, dashes and"
            " underscores"
        )
