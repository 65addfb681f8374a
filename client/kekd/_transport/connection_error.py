"""Describes failed connections: translates gRPC's messages, which quote its TLS library."""

import re
from typing import Final

CHECK_DAEMON: Final = "no connection; check that it is running"
UNRESPONSIVE: Final = "it accepts connections but doesn't respond, as if stopped or overloaded"
NO_SETTINGS: Final = "before receiving SETTINGS frame"

_REFUSED: Final = "Connection refused"
_IP_ADDRESS: Final = re.compile(r"ipv[46]:[^ ]+:")
_PREFIX: Final = "failed to connect to all addresses; last error: "
_CHECK_LISTENER: Final = "check the address, and the log of what listens there"
_CHECK_NETWORK: Final = "connection lost; check that it is running and the network works"
_CERT_REJECTED: Final = (
    "it rejects the client certificate; pass one of its client CA as cert (KEKD_CERT)"
)
_OTHER_NAME: Final = (
    "its certificate is for another name; pass that as server_name (KEKD_SERVER_NAME)"
)
_DESCRIPTIONS: Final = (
    # The rest of the message says that there is no connection.
    (NO_SETTINGS, f"{UNRESPONSIVE}; check it"),
    ("ping timeout", _CHECK_NETWORK),
    ("keepalive timeout", _CHECK_NETWORK),
    (_REFUSED, CHECK_DAEMON),
    ("No such file or directory", CHECK_DAEMON),
)
_OVER_TCP: Final = (
    ("certificate has expired", "its certificate has expired; renew it on the daemon's machine"),
    (
        "certificate is not yet valid",
        "its certificate isn't valid yet; compare the clocks of both machines",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "no CA in ca (KEKD_CA) issued its certificate; check that ca is the right file",
    ),
    ("Hostname Verification", _OTHER_NAME),
    ("is not in peer certificate", _OTHER_NAME),  # gRPC 1.62
    (
        "WRONG_VERSION_NUMBER",
        "it doesn't use TLS; omit ca, cert and key (KEKD_CA, KEKD_CERT, KEKD_KEY)",
    ),
    (
        "Socket closed",
        "it closed the connection; if it uses TLS, pass ca (KEKD_CA) and a cert of its client CA",
    ),
    ("ALERT_UNKNOWN_CA", _CERT_REJECTED),
    ("ALERT_BAD_CERTIFICATE", _CERT_REJECTED),
    ("ALERT_CERTIFICATE", _CERT_REJECTED),
    ("SSL_ERROR", f"the TLS handshake failed; {_CHECK_LISTENER}"),
    (
        "Handshake read failed",
        f"it closed the connection during the TLS handshake; {_CHECK_LISTENER}",
    ),
    ("http1.x server", "it isn't kekd, but an HTTP/1 server; check the address"),
    ("errors resolving", "no such host; check the host name and the DNS"),
    ("lookup failed", "no such host; check the host name and the DNS"),
)
"""By a part of gRPC's message; the first match counts. A daemon that rejects a certificate
only closes the connection: TLS 1.3 has no error for the client. A proxy with TLS 1.2 may send one.
"""


def more_informative(earlier: str, latest: str) -> str:
    """Returns the earlier of two messages if the latest says that another IP address refuses.

    gRPC tries all addresses of a host, such as ::1 and 127.0.0.1 for localhost, and its message
    has the error of only one. The daemon often listens on one of them.
    """
    is_other = _IP_ADDRESS.findall(earlier) != _IP_ADDRESS.findall(latest)
    return earlier if earlier and is_other and _REFUSED in latest else latest


def describe_connection_error(address: str, text: str) -> str:
    """Returns the cause in gRPC's message, and what to do. Quotes the message if it is unknown."""
    known = _DESCRIPTIONS if address.startswith("unix:") else (*_DESCRIPTIONS, *_OVER_TCP)
    found = next((description for words, description in known if words in text), None)
    return found or f"{CHECK_DAEMON} ({text.removeprefix(_PREFIX)})"
