"""The number of cached KEKs, and what a keyring returns and shows."""

import pytest

from kekd.kek import Keyring
from kekd.kek.errors import KekRequiredError
from tests.unit.kek_keyring.fakes import Backend, OpenKeyring, is_scrubbed, kek_of


def test_full_cache_evicts_the_oldest_kek(backend: Backend, open_keyring: OpenKeyring) -> None:
    keyring = open_keyring(max_entries=3)
    for name in "abcde":
        assert keyring.kek(name) == kek_of(name)
    assert list(keyring._cache._entries) == list("cde")
    assert [is_scrubbed(kek) for kek in backend.keks] == [True, True, False, False, False]


def test_reloading_a_kek_evicts_no_other(backend: Backend, open_keyring: OpenKeyring) -> None:
    keyring = open_keyring(max_entries=2)
    for name in "ab":
        keyring.kek(name)
    keyring.invalidate("a")
    keyring.kek("a")
    keyring.kek("b")
    assert backend.loads == list("aba")


def test_keyring_without_entries_caches_nothing(
    backend: Backend, open_keyring: OpenKeyring
) -> None:
    keyring = open_keyring(max_entries=0)
    for _ in range(2):
        assert keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 2
    assert all(map(is_scrubbed, backend.keks))


def test_kek_of_provider_none_raises_and_is_not_cached(backend: Backend, keyring: Keyring) -> None:
    backend.provider = "none"
    for loads in (1, 2, 3):
        with pytest.raises(KekRequiredError) as caught:
            keyring.kek("i")
        assert caught.value.index_name == "i"
        assert len(backend.loads) == loads
    assert not keyring._cache._entries


def test_kek_returns_a_copy(backend: Backend, keyring: Keyring) -> None:
    first, second = keyring.kek("i"), keyring.kek("i")
    assert type(first) is type(second) is bytes
    keyring.invalidate("i")
    assert is_scrubbed(backend.keks[0])
    assert first == second == kek_of("i")


def test_repr_contains_no_kek(keyring: Keyring) -> None:
    kek = keyring.kek("i")
    shown = f"{keyring!r} {vars(keyring)!r} {keyring._cache._entries!r}"
    assert kek.hex() not in shown
    assert repr(kek)[2:-1] not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"max_stale": -1},
        {"max_stale": float("nan")},
        {"max_entries": -1},
    ],
    ids=str,
)
def test_invalid_options_raise(open_keyring: OpenKeyring, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        open_keyring(**wrong)
