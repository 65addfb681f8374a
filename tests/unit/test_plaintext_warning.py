"""A client warns about calls without TLS. The tests use no channel."""

import warnings

import pytest

from kekd._transport.channel import Connector
from kekd._transport.endpoint import Endpoint


@pytest.mark.parametrize("method", ["connect", "connect_async"])
async def test_remote_address_without_tls_warns_once(method: str) -> None:
    connect = getattr(Connector(Endpoint("10.0.0.1:7535")), method)
    with pytest.warns(UserWarning, match=r"calling 10\.0\.0\.1:7535 without TLS"):
        connect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect()


@pytest.mark.parametrize(
    "address", ["unix:/x", "127.0.0.1:7535", "127.8.9.1:1", "[::1]:7535", "localhost:7535"]
)
def test_local_address_does_not_warn(address: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Connector(Endpoint(address)).connect()
