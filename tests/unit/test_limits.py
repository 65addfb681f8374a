"""The limits on calls of an identity. The test sets the clock."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from kekd_server.access import call_limits
from kekd_server.access.call_limits import CallLimits
from kekd_server.model.errors import RateLimitedError, ShareTakenError, TooManyCallsError
from kekd_server.observability.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    with patch.object(call_limits, "time", clock):
        yield clock


def allowed_calls(kept: CallLimits, identity: str = "a", tries: int = 100) -> int:
    """Returns how many calls are allowed at once."""
    for number in range(tries):
        try:
            kept.check_rate(identity)
        except RateLimitedError:
            return number
    return tries


def test_burst_is_accepted_and_then_the_rate(clock: Clock) -> None:
    kept = CallLimits(metrics=Metrics(), calls=1, rate=10, burst=5)
    assert allowed_calls(kept) == 5
    clock.now += 0.1001
    assert allowed_calls(kept) == 1
    clock.now += 0.3001
    assert allowed_calls(kept) == 3
    clock.now += 1000
    assert allowed_calls(kept) == 5


def test_call_after_the_suggested_delay_succeeds(clock: Clock) -> None:
    kept = CallLimits(metrics=Metrics(), calls=1, rate=0.5, burst=1)
    kept.check_rate("a")
    clock.now += 0.5
    with pytest.raises(RateLimitedError) as caught:
        kept.check_rate("a")
    assert caught.value.retry_seconds == pytest.approx(1.5)
    clock.now += caught.value.retry_seconds + 1e-6
    kept.check_rate("a")


def test_identities_have_separate_rate_limits(clock: Clock) -> None:
    kept = CallLimits(metrics=Metrics(), calls=1, rate=10, burst=5)
    assert allowed_calls(kept, "a") == allowed_calls(kept, "b") == 5


def test_refused_call_costs_nothing(clock: Clock) -> None:
    kept = CallLimits(metrics=Metrics(), calls=1, rate=10, burst=1)
    assert allowed_calls(kept) == 1
    for _ in range(100):
        assert allowed_calls(kept) == 0
    clock.now += 0.1001
    assert allowed_calls(kept) == 1


def test_calls_without_a_rate_limit_are_all_allowed(clock: Clock) -> None:
    assert allowed_calls(CallLimits(metrics=Metrics(), calls=1, rate=None, burst=1)) == 100


def test_idle_identities_are_forgotten(clock: Clock) -> None:
    kept = CallLimits(metrics=Metrics(), calls=1, rate=10, burst=5)
    for number in range(20_000):
        clock.now += 0.001
        kept.check_rate(f"{number}")
    assert len(kept._full_at._values) <= 10_001


def test_as_many_calls_as_allowed_run_at_once() -> None:
    metrics = Metrics()
    kept = CallLimits(metrics=metrics, calls=3, rate=None, burst=1)
    kept.check_calls(3)
    with pytest.raises(TooManyCallsError):
        kept.check_calls(4)
    shed = metrics.registry.get_sample_value("kekd_calls_shed_total", {"reason": "calls"})
    assert shed == 1


def test_batch_entries_are_charged_to_later_calls(clock: Clock) -> None:
    kept = CallLimits(metrics=Metrics(), calls=1000, rate=10, burst=5)
    kept.check_rate("a")
    kept.begin("a", is_watch=False).add_entries(100)
    assert allowed_calls(kept) == 0
    assert allowed_calls(kept, "b") == 5
    clock.now += 9.4
    assert allowed_calls(kept) == 0
    clock.now += 0.2001
    assert allowed_calls(kept) == 1


def test_one_identity_leaves_room_for_the_watches_and_calls_of_others() -> None:
    metrics = Metrics()
    kept = CallLimits(metrics=metrics, calls=1000, rate=None, burst=1)
    for is_watch, most in ((True, 750), (False, 942)):
        for _ in range(most):
            kept.begin("hog", is_watch=is_watch)
        with pytest.raises(ShareTakenError, match="of the daemon's 1000"):
            kept.begin("hog", is_watch=is_watch)
        for number in range(50):
            kept.begin(f"other {number}", is_watch=is_watch)
    shed = metrics.registry.get_sample_value("kekd_calls_shed_total", {"reason": "share"})
    assert shed == 2


def test_released_call_makes_room_for_another() -> None:
    kept = CallLimits(metrics=Metrics(), calls=1, rate=None, burst=1)
    for _ in range(3):
        lease = kept.begin("a", is_watch=False)
        lease.hold()
        lease.release()
        with pytest.raises(TooManyCallsError):
            kept.begin("b", is_watch=False)
        lease.release()
