"""The client's pings, and the rate that the daemon permits."""

from kekd._transport import channel
from kekd_server.rpc import engines


def test_client_pings_less_often_than_the_daemon_permits() -> None:
    assert channel._KEEPALIVE_INTERVAL > engines._MIN_PING_INTERVAL
