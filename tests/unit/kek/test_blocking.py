"""An `AsyncClient` where a blocking client is required."""

from collections.abc import Callable
from typing import Any

import pytest

import kekd
from kekd.kek import AsyncKeyring, Keyring, Registry, Slot, check_unwrap_all, rotate_all


def registry() -> Registry:
    def no_provider(_: object) -> Any:
        raise AssertionError("a provider was asked for")

    return Registry({"prod": Slot("prod", "aws-kms", "key")}, provider=no_provider)


USES: dict[str, Callable[[Any], Any]] = {
    "Keyring": lambda client: Keyring(registry(), client),
    "AsyncKeyring": lambda client: AsyncKeyring(registry(), client),
    "provision": lambda client: registry().provision("i", "prod", client=client),
    "rotate": lambda client: registry().rotate("i", client=client),
    "rotate_all": lambda client: list(rotate_all(registry(), client=client)),
    "check_unwrap_all": lambda client: list(check_unwrap_all(registry(), client=client)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_async_client_raises_with_the_right_class(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"AsyncClient doesn't block; pass a kekd\.Client"):
        use(kekd.AsyncClient("unix:/nowhere"))
