import threading
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
import tenacity
from botocore.stub import Stubber

from kekd.kek import Slot, rate_limiter
from kekd.kek.aws.kms import AwsKms
from kekd.kek.rate_limiter import RateLimiter
from tests.unit.kek.clock import AdvancingClock, Clock

ARN = "arn:aws:kms:us-east-1:111122223333:key/k"


def pass_times(pace: RateLimiter, threads: int, each: int) -> list[float]:
    """Returns the time when each call returned, in seconds since the start."""
    times: list[float] = []
    start = threading.Barrier(threads)

    def call() -> None:
        start.wait()
        for _ in range(each):
            pace.wait()
            times.append(time.monotonic())

    with ThreadPoolExecutor(threads) as pool:
        began = time.monotonic()
        for call_of_one in [pool.submit(call) for _ in range(threads)]:
            call_of_one.result()
    return sorted(passing - began for passing in times)


@pytest.mark.parametrize("threads", [1, 8])
def test_threads_share_one_rate(threads: int) -> None:
    times = pass_times(RateLimiter(100), threads, each=40 // threads)
    # The nth call can't pass before its turn, even if others are late.
    assert all(when >= n / 100 - 0.001 for n, when in enumerate(times))
    assert len(times) == 40


class SlowNumber(float):
    """A number whose addition lets other threads run."""

    def __radd__(self, other: float) -> float:
        time.sleep(0.002)
        return other + float(self)


def test_each_turn_goes_to_one_thread() -> None:
    pace = RateLimiter(100)
    pace._interval = SlowNumber(0.01)
    assert all(when >= n / 100 - 0.001 for n, when in enumerate(pass_times(pace, 8, each=2)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limiter, "time", clock)
    return clock


def test_first_caller_does_not_wait(clock: Clock) -> None:
    RateLimiter(0.001).wait()
    assert clock.slept == [0]


def test_turns_are_evenly_spaced(clock: Clock) -> None:
    pace = RateLimiter(4)
    for _ in range(4):
        pace.wait()
    assert clock.slept == [0, 0.25, 0.5, 0.75]


def test_pause_does_not_accumulate_turns(clock: Clock) -> None:
    pace = RateLimiter(4)
    pace.wait()
    clock.now = 2000.0
    for _ in range(3):
        pace.wait()
    assert clock.slept == [0, 0, 0.25, 0.5]


@pytest.mark.parametrize("rate", [None, 0])
def test_calls_without_a_rate_do_not_wait(clock: Clock, rate: float | None) -> None:
    pace = RateLimiter(rate)
    for _ in range(1000):
        pace.wait()
    assert clock.slept == []


def test_waiting_for_the_rate_limit_does_not_use_up_the_timeout(
    aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = AdvancingClock()
    for module in (rate_limiter, tenacity, tenacity.nap):
        monkeypatch.setattr(module, "time", clock)
    kms = boto3.client("kms", region_name="us-east-1")
    pace = RateLimiter(5)
    provider = AwsKms(Slot("prod", "aws-kms", "k"), timeout=0.5, rate_limiter=pace, client=kms)
    for _ in range(5):  # other threads reserve turns for a second
        pace._next_turn += pace._interval
    with Stubber(kms) as stub:
        stub.add_client_error("describe_key", "ThrottlingException", http_status_code=400)
        stub.add_response(
            "describe_key", {"KeyMetadata": {"KeyId": "k", "Arn": ARN, "Enabled": True}}
        )
        pace._next_turn += clock.now
        assert provider.describe().arn == ARN
