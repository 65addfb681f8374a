"""The rules for combinations of settings."""

from pathlib import Path
from typing import Any

import pytest

from kekd_server.config import validation
from kekd_server.config.audit import AuditSettings
from kekd_server.config.listen import ListenSettings

SOCKET = ListenSettings(address="unix:/s")
LOOPBACK = ListenSettings(address="127.0.0.1:7")
OUTSIDE = ListenSettings(address="0.0.0.0:7")
NATIVE = ListenSettings(address="127.0.0.1:7", engine="native")
VALID: dict[str, Any] = {
    "listen": [SOCKET, LOOPBACK],
    "addresses": {0: SOCKET, 1: LOOPBACK},
    "tls_cert": None,
    "tls_key": None,
    "tls_client_ca": None,
    "engine": "auto",
    "workers": 1,
    "memory": False,
    "audit": None,
    "max_connection_age": None,
    "keepalive": None,
    "take_over": False,
}


def places(**values: Any) -> list[validation.Place]:
    return [place for place, _ in validation.check(VALID | values)]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"tls_cert": Path("/c")}, ("tls_key",)),
        ({"tls_key": Path("/k")}, ("tls_key",)),
        ({"tls_client_ca": Path("/ca")}, ("tls_client_ca",)),
        ({"tls_cert": Path("/c"), "tls_key": Path("/k"), "listen": [SOCKET]}, ("listen",)),
        ({"workers": 2, "listen": [SOCKET]}, ("workers",)),
        ({"workers": 2, "memory": True}, ("memory",)),
        ({"workers": 2, "audit": AuditSettings.model_validate({"file": "-"})}, ("audit",)),
        ({"engine": "native", "keepalive": 1.0}, ("keepalive",)),
        ({"listen": [NATIVE], "max_connection_age": 1.0}, ("max_connection_age",)),
        ({"take_over": True, "workers": 2}, ("take_over",)),
        ({"take_over": True, "listen": [LOOPBACK]}, ("take_over",)),
        ({"addresses": {3: OUTSIDE}}, ("listen", 3)),
    ],
)
def test_combination_that_cannot_work_is_rejected(
    values: dict[str, Any], place: validation.Place
) -> None:
    assert places(**values) == [place]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"workers": 2, "audit": AuditSettings(file=Path("/a"))},
        {"memory": True, "take_over": True, "keepalive": 1.0, "max_connection_age": 1.0},
        {
            "tls_cert": Path("/c"),
            "tls_key": Path("/k"),
            "tls_client_ca": Path("/ca"),
            "addresses": {0: OUTSIDE},
        },
    ],
)
def test_combination_that_works_is_accepted(values: dict[str, Any]) -> None:
    assert places(**values) == []


def test_rule_that_reads_an_unknown_setting_is_skipped() -> None:
    assert list(validation.check({"workers": 2})) == []
    assert list(validation.check({"workers": 2, "memory": True}))
