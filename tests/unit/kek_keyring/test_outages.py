"""Cached KEKs during outages and after refusals."""

import threading
from contextlib import suppress

import pytest

from kekd.errors import (
    CorruptEnvelopeError,
    DeadlineExceededError,
    EnvelopeError,
    EnvelopeNotFoundError,
    InternalError,
    PermissionDeniedError,
    StoreMisconfiguredError,
    UnavailableError,
)
from kekd.kek import Keyring
from kekd.kek.errors import (
    AccessDeniedError,
    CredentialsError,
    CredentialsUnavailableError,
    ExpiredCredentialsError,
    KekError,
    KekRequiredError,
    KeyDisabledError,
    KeyPendingDeletionError,
    ProviderUnavailableError,
    SlotNotFoundError,
    TamperedError,
    ThrottledError,
)
from tests.patience import eventually
from tests.unit.kek_keyring.fakes import (
    TTL,
    Backend,
    Clock,
    OpenKeyring,
    is_idle,
    is_scrubbed,
    kek_of,
)

MAX_STALE = 30.0

each_outage = pytest.mark.parametrize(
    "outage",
    [
        CredentialsUnavailableError,
        DeadlineExceededError,
        ExpiredCredentialsError,
        InternalError,
        ProviderUnavailableError,
        StoreMisconfiguredError,
        ThrottledError,
        UnavailableError,
    ],
)
each_refusal = pytest.mark.parametrize(
    "refusal",
    [
        AccessDeniedError,
        CorruptEnvelopeError,
        CredentialsError,
        EnvelopeNotFoundError,
        KekRequiredError,
        KeyDisabledError,
        KeyPendingDeletionError,
        PermissionDeniedError,
        SlotNotFoundError,
        TamperedError,
    ],
)


@pytest.fixture
def lenient(open_keyring: OpenKeyring) -> Keyring:
    return open_keyring(max_stale=MAX_STALE)


@each_outage
def test_outage_within_the_ttl_is_invisible(
    backend: Backend, clock: Clock, keyring: Keyring, outage: type[KekError | EnvelopeError]
) -> None:
    keyring.kek("i")
    backend.failure = outage("down")
    for _ in range(100):
        clock.now += TTL * 0.999 / 100
        assert keyring.kek("i") == kek_of("i")
    eventually(lambda: is_idle(keyring))
    assert not is_scrubbed(backend.keks[0])


@each_outage
def test_outage_after_the_ttl_raises_by_default(
    backend: Backend, clock: Clock, keyring: Keyring, outage: type[KekError | EnvelopeError]
) -> None:
    keyring.kek("i")
    backend.failure = outage("down")
    clock.now += TTL * 0.96
    keyring.kek("i")
    eventually(lambda: len(backend.loads) == 2 and is_idle(keyring))
    clock.now += TTL * 0.04
    for attempts in (3, 4):
        with pytest.raises(outage):
            keyring.kek("i")
        assert len(backend.loads) == attempts


@each_outage
def test_outage_within_max_stale_serves_the_kek(
    backend: Backend, clock: Clock, lenient: Keyring, outage: type[KekError | EnvelopeError]
) -> None:
    lenient.kek("i")
    backend.failure = outage("down")
    clock.now += TTL
    for _ in range(10):
        assert lenient.kek("i") == kek_of("i")
        clock.now += MAX_STALE * 0.0999
        eventually(lambda: is_idle(lenient))
    clock.now = 1000 + TTL + MAX_STALE
    with pytest.raises(outage):
        lenient.kek("i")


def test_failed_refreshes_do_not_extend_max_stale(
    backend: Backend, clock: Clock, lenient: Keyring
) -> None:
    lenient.kek("i")
    backend.failure = ThrottledError("down")
    served = 0
    with suppress(ThrottledError):
        while served < 1000:
            clock.now += 1.01
            assert lenient.kek("i") == kek_of("i")
            served += 1
            eventually(lambda: is_idle(lenient))
    assert served == int((TTL + MAX_STALE) / 1.01)


def test_max_stale_without_an_outage_serves_nothing(
    backend: Backend, clock: Clock, lenient: Keyring
) -> None:
    lenient.kek("i")
    backend.hold()
    clock.now += TTL
    late = threading.Thread(target=lenient.kek, args=("i",))
    late.start()
    late.join(0.05)
    assert late.is_alive(), "it waits for the load"
    backend.release()
    late.join()


def test_stale_kek_is_served_without_waiting(
    backend: Backend, clock: Clock, lenient: Keyring
) -> None:
    lenient.kek("i")
    backend.failure = UnavailableError("down")
    clock.now += TTL
    lenient.kek("i")
    backend.hold()
    clock.now += 1.5
    for _ in range(100):
        assert lenient.kek("i") == kek_of("i")
    eventually(lambda: len(backend.loads) == 3)
    assert not is_idle(lenient)


def test_refresh_in_an_outage_is_retried_once_per_second(
    backend: Backend, clock: Clock, lenient: Keyring
) -> None:
    lenient.kek("i")
    backend.failure = UnavailableError("down")
    clock.now += TTL
    lenient.kek("i")
    before = len(backend.loads)
    for _ in range(100):
        clock.now += 0.1
        lenient.kek("i")
        eventually(lambda: is_idle(lenient))
    assert 9 <= len(backend.loads) - before <= 10


def test_kek_after_an_outage_has_a_full_ttl(
    backend: Backend, clock: Clock, lenient: Keyring
) -> None:
    lenient.kek("i")
    backend.failure = UnavailableError("down")
    clock.now += TTL
    lenient.kek("i")
    backend.failure = None
    clock.now += 1.5
    lenient.kek("i")
    eventually(lambda: len(backend.keks) == 2 and is_idle(lenient))
    clock.now += TTL
    before = len(backend.loads)
    lenient.kek("i")
    assert len(backend.loads) == before + 1, "the one outage gave no leave for the next"


@each_refusal
def test_refused_refresh_drops_the_kek(
    backend: Backend, clock: Clock, lenient: Keyring, refusal: type[KekError | EnvelopeError]
) -> None:
    lenient.kek("i")
    backend.failure = refusal("no")
    clock.now += TTL * 0.96
    with suppress(refusal):  # the refresh may end before this call
        assert lenient.kek("i") == kek_of("i")
    eventually(lambda: is_scrubbed(backend.keks[0]))
    with pytest.raises(refusal):
        lenient.kek("i")


@each_refusal
def test_refusal_during_an_outage_drops_the_stale_kek(
    backend: Backend, clock: Clock, lenient: Keyring, refusal: type[KekError | EnvelopeError]
) -> None:
    lenient.kek("i")
    backend.failure = UnavailableError("down")
    clock.now += TTL
    lenient.kek("i")
    backend.failure = refusal("no")
    clock.now += 1.5
    with suppress(refusal):
        assert lenient.kek("i") == kek_of("i")
    eventually(lambda: is_scrubbed(backend.keks[0]))
    backend.failure = UnavailableError("down")
    with pytest.raises(UnavailableError):
        lenient.kek("i")


def test_refusal_after_the_ttl_raises(backend: Backend, clock: Clock, lenient: Keyring) -> None:
    lenient.kek("i")
    backend.failure = AccessDeniedError("no")
    clock.now += TTL
    with pytest.raises(AccessDeniedError):
        lenient.kek("i")
    assert is_scrubbed(backend.keks[0])


def test_refusal_of_an_index_keeps_the_others(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    keyring.kek("i")
    clock.now += 1
    keyring.kek("other")
    keyring.invalidate("i")
    backend.failure = AccessDeniedError("no")
    with pytest.raises(AccessDeniedError):
        keyring.kek("i")
    assert keyring.kek("other") == kek_of("other")


def test_timeout_counts_as_an_outage(
    open_keyring: OpenKeyring, backend: Backend, clock: Clock
) -> None:
    keyring = open_keyring(max_stale=MAX_STALE)
    keyring.kek("i")
    backend.hold()
    clock.now += TTL * 0.96
    assert keyring.kek("i") == kek_of("i")
    eventually(lambda: len(backend.loads) == 2)
    clock.now += MAX_STALE / 2
    assert keyring.kek("i") == kek_of("i"), "nobody waits for an answer that doesn't come"


def test_concurrent_refreshes_are_limited(
    open_keyring: OpenKeyring, backend: Backend, clock: Clock
) -> None:
    keyring = open_keyring()
    names = [str(number) for number in range(100)]
    for name in names:
        keyring.kek(name)
    backend.hold()
    clock.now += TTL * 0.96
    for name in names:
        assert keyring.kek(name) == kek_of(name)
    assert len(keyring._loads) == 16
    backend.release()
    eventually(lambda: is_idle(keyring))
