"""A client warns of calls that others can read. No channel here is used."""

import warnings

import pytest

from kekd._transport import channel


@pytest.mark.parametrize("method", ["dial", "dial_async"])
async def test_client_of_another_machine_without_tls_warns_once(method: str) -> None:
    dial = getattr(channel.Dialer("10.0.0.1:7535", None), method)
    with pytest.warns(UserWarning, match=r"10\.0\.0\.1:7535 is called without TLS"):
        dial()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dial()


@pytest.mark.parametrize(
    "address", ["unix:/x", "127.0.0.1:7535", "127.8.9.1:1", "[::1]:7535", "localhost:7535"]
)
def test_client_of_this_machine_is_not_warned(address: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        channel.Dialer(address, None).dial()
