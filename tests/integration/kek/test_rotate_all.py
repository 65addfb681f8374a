"""`rotate_all` rewraps the KEKs of all indexes despite conflicts and failures."""

import inspect
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import kekd
from kekd.kek import Failure, Registry, Rotation, rotate_all
from kekd.kek.errors import SlotNotFoundError, TamperedError
from tests.fixtures.kms import Aws
from tests.integration.kek import registry_file
from tests.integration.kek.providers import each_provider, observed
from tests.patience import PATIENCE, eventually

Outcomes = dict[str, str | type[Exception]]


def provision(
    registry: Registry, client: kekd.Client, slot: str, index_names: Iterable[str]
) -> dict[str, bytes]:
    """Provisions the indexes, and returns their KEKs."""

    def provision_one(index_name: str) -> tuple[str, bytes]:
        return index_name, bytes(registry.provision(index_name, slot, client=client)[0])

    with ThreadPoolExecutor(16) as threads:
        return dict(threads.map(provision_one, index_names))


def unwrap_all(
    registry: Registry, client: kekd.Client, index_names: Iterable[str]
) -> dict[str, bytes]:
    """Unwraps their envelopes, and returns the KEKs."""

    def unwrap_one(index_name: str) -> tuple[str, bytes]:
        return index_name, bytes(
            registry.unwrap(index_name, client.get_index_kms(None, index_name))
        )

    with ThreadPoolExecutor(16) as threads:
        return dict(threads.map(unwrap_one, index_names))


def stored(client: kekd.Client) -> dict[str, tuple[str, int]]:
    """Returns the slot and version of every envelope."""
    envelopes = {name: client.get_index_kms(None, name) for name in client.list_index_kms()}
    return {name: (envelope.kms_name, envelope.version) for name, envelope in envelopes.items()}


def etags(client: kekd.Client) -> dict[str, str]:
    return {name: client.get_index_kms(None, name).etag for name in client.list_index_kms()}


def outcomes(rotations: Iterable[Rotation | Failure]) -> Outcomes:
    """Returns the outcome of each index. Each must occur once."""
    found: Outcomes = {}
    for result in rotations:
        assert result.index_name not in found
        found[result.index_name] = (
            result.outcome if isinstance(result, Rotation) else type(result.error)
        )
    return found


@each_provider
def test_rotate_all_rotates_each_index_once(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    names = [f"{number:02}" for number in range(40)]
    keks = provision(registry, client, slot, names)
    into = f"other-{slot}"
    for outcome in ("rotated", "unchanged"):
        rotations = rotate_all(registry, into, client=client)
        assert outcomes(rotations) == dict.fromkeys(names, outcome)
        assert stored(client) == dict.fromkeys(names, (into, 2))
    assert unwrap_all(registry, client, names) == keks


def test_rotate_all_skips_current_envelopes_without_calling_aws(
    registry: Registry, client: kekd.Client
) -> None:
    provision(registry, client, "other-aws", ["a", "b"])
    before = etags(client)
    asked: list[str] = []
    rotations = rotate_all(observed(registry.slots, asked.append), "other-aws", client=client)
    assert outcomes(rotations) == {"a": "unchanged", "b": "unchanged"}
    assert etags(client) == before
    assert asked == []


@each_provider
def test_rotate_all_with_force_rotates_current_envelopes(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    keks = provision(registry, client, slot, ["a", "b"])
    before = etags(client)
    assert {rotation.index_name for rotation in rotate_all(registry, client=client)} == {"a", "b"}
    assert etags(client) == before
    outcomes = list(rotate_all(registry, client=client, force=True))
    assert {
        (rotation.index_name, getattr(rotation, "outcome", rotation)) for rotation in outcomes
    } == {
        ("a", "rotated"),
        ("b", "rotated"),
    }
    assert unwrap_all(registry, client, keks) == keks


def test_rotate_all_with_older_than_rotates_old_envelopes(
    registry: Registry, client: kekd.Client
) -> None:
    day = 24 * 3600
    keks = provision(registry, client, "aws", ["new", "old", "unknown"])
    for name, created_at in (("old", int(time.time()) - 91 * day), ("unknown", 0)):
        envelope = client.get_index_kms(None, name)
        client.push_index_kms(None, name, replace(envelope, created_at=created_at))
    for expected in ("rotated", "unchanged"):  # a second run leaves rotated envelopes unchanged
        outcomes = rotate_all(registry, client=client, older_than=90.0 * day)
        found = {
            rotation.index_name: getattr(rotation, "outcome", rotation) for rotation in outcomes
        }
        assert found == {"new": "unchanged", "old": expected, "unknown": expected}
    assert unwrap_all(registry, client, keks) == keks


def test_rotate_all_without_a_slot_rotates_drifted_envelopes(
    registry: Registry, client: kekd.Client
) -> None:
    provision(registry, client, "aws", ["drifted"])
    provision(registry, client, "aws-kms", ["current"])
    registry.slots["aws"] = replace(registry.slots["other-aws"], name="aws")
    rotations = rotate_all(registry, client=client)
    assert outcomes(rotations) == {"drifted": "rotated", "current": "unchanged"}


def test_rotate_all_reports_failures_and_continues(registry: Registry, client: kekd.Client) -> None:
    names = [f"{number:02}" for number in range(20)]
    keks = provision(registry, client, "aws", names)
    tampered, orphaned = names[3], names[11]
    envelope = client.get_index_kms(None, tampered)
    client.push_index_kms(None, tampered, replace(envelope, wrapped_kek=bytes(60)))
    envelope = client.get_index_kms(None, orphaned)
    client.push_index_kms(None, orphaned, replace(envelope, kms_name="gone"))
    before = etags(client)

    rotations = list(rotate_all(registry, "aws-kms", client=client, jobs=2))
    failed = {tampered: TamperedError, orphaned: SlotNotFoundError}
    assert outcomes(rotations) == dict.fromkeys(names, "rotated") | failed
    reasons = {
        failure.index_name: str(failure.error)
        for failure in rotations
        if isinstance(failure, Failure)
    }
    assert "cannot unwrap KEK" in reasons[tampered]
    assert "'gone'" in reasons[orphaned]
    assert all(f"index '{name}'" in reason for name, reason in reasons.items())

    after = etags(client)
    assert {name for name in names if after[name] == before[name]} == set(failed)
    rotated = [name for name in names if name not in failed]
    assert unwrap_all(registry, client, rotated) == {name: keks[name] for name in rotated}


def test_provider_none_is_unchanged(registry: Registry, client: kekd.Client) -> None:
    registry.provision("i", client=client, kek=bytes(32))
    assert outcomes(rotate_all(registry, "aws", client=client)) == {"i": "unchanged"}


def test_rotate_all_with_from_slot_or_prefix_skips_the_others(
    registry: Registry, client: kekd.Client
) -> None:
    provision(registry, client, "aws", ["a-1", "b-1"])
    provision(registry, client, "aws-kms", ["a-2", "b-2"])
    rotations = rotate_all(registry, "other-aws", client=client, prefix="a-", from_slot="aws")
    assert outcomes(rotations) == {"a-1": "rotated", "a-2": "unchanged"}
    assert stored(client) == {
        "a-1": ("other-aws", 2),
        "a-2": ("aws-kms", 1),
        "b-1": ("aws", 1),
        "b-2": ("aws-kms", 1),
    }


def test_rotate_all_dry_run_stores_nothing(registry: Registry, client: kekd.Client) -> None:
    keks = provision(registry, client, "aws", ["a", "b"])
    before = etags(client)
    rotations = list(rotate_all(registry, "aws-kms", client=client, dry_run=True))
    assert outcomes(rotations) == {"a": "would rotate", "b": "would rotate"}
    assert etags(client) == before
    for rotation in rotations:
        assert isinstance(rotation, Rotation)
        kek = registry.unwrap(rotation.index_name, rotation.envelope)
        assert kek == keks[rotation.index_name]


def test_rotate_all_with_keep_version_keeps_versions(
    registry: Registry, client: kekd.Client
) -> None:
    provision(registry, client, "aws", ["a", "b"])
    list(rotate_all(registry, "aws-kms", client=client, keep_version=True))
    assert stored(client) == dict.fromkeys(("a", "b"), ("aws-kms", 1))


def test_rotate_all_with_from_store_binds_moved_envelopes(
    registry: Registry, client: kekd.Client, memory: kekd.StorageConfig
) -> None:
    provision(registry, client, "bound-aws", ["a", "b"])
    for name in ("a", "b"):
        envelope = client.get_index_kms(None, name)
        client.push_index_kms(memory, name, envelope)
    rotations = rotate_all(
        registry, client=client, config_location=memory, from_store=envelope.store
    )
    assert outcomes(rotations) == {"a": "rotated", "b": "rotated"}
    assert outcomes(rotate_all(registry, client=client, config_location=memory)) == {
        "a": "unchanged",
        "b": "unchanged",
    }


@pytest.mark.parametrize("jobs", [1, 5])
def test_jobs_limits_concurrency(registry: Registry, client: kekd.Client, jobs: int) -> None:
    names = [f"{number:02}" for number in range(4 * jobs)]
    provision(registry, client, "aws-kms", names)
    all_are_there = threading.Barrier(jobs)
    inside = [0]
    lock = threading.Lock()

    def meet(_: str) -> None:
        with lock:
            inside.append(inside[-1] + 1)
        all_are_there.wait(timeout=PATIENCE)
        with lock:
            inside.append(inside[-1] - 1)

    rotations = rotate_all(
        observed(registry.slots, meet, only="ReEncrypt"), "other-aws-kms", client=client, jobs=jobs
    )
    assert outcomes(rotations) == dict.fromkeys(names, "rotated")
    assert max(inside) == jobs


Batch = list[tuple[str, kekd.KMSBlob, str | None]]


class DisturbedClient(kekd.Client):
    """A client that passes each batch to `disturb` before sending it."""

    def __init__(self, address: str, disturb: Callable[[Batch], Any]) -> None:
        super().__init__(address)
        self._disturb = disturb
        self.batches: list[list[str]] = []

    def push_many_index_kms(self, *arguments: Any, **more: Any) -> Iterator[Any]:
        where, items = arguments
        batch = list(items)
        if batch:
            self.batches.append([name for name, *_ in batch])
            self._disturb(batch)
        return super().push_many_index_kms(where, batch, **more)


def test_envelopes_ready_during_a_push_are_pushed_together(
    registry: Registry, client: kekd.Client
) -> None:
    names = [f"{number:02}" for number in range(24)]
    keks = provision(registry, client, "aws", names)

    def wait_for_the_jobs(_: Batch) -> None:
        pool = inspect.getgeneratorlocals(rotations)["pool"]
        eventually(lambda: pool._done.qsize() == pool.in_flight)

    with DisturbedClient(client.address, wait_for_the_jobs) as disturbed:
        rotations = rotate_all(registry, "aws-kms", client=disturbed, jobs=4)
        assert outcomes(rotations) == dict.fromkeys(names, "rotated")
    assert sorted(name for batch in disturbed.batches for name in batch) == names
    assert max(map(len, disturbed.batches)) in {4, 5, 6, 7, 8}
    assert unwrap_all(registry, client, names) == keks


def test_one_job_with_fast_pushes_pushes_one_by_one(
    registry: Registry, client: kekd.Client
) -> None:
    provision(registry, client, "aws-kms", ["a", "b", "c"])
    asked: list[str] = []

    def wait_for_the_push(operation: str) -> None:
        asked.append(operation)
        eventually(lambda: len(disturbed.batches) >= len(asked) - 1)

    slow = observed(registry.slots, wait_for_the_push, only="ReEncrypt")
    with DisturbedClient(client.address, lambda _: None) as disturbed:
        list(rotate_all(slow, "other-aws-kms", client=disturbed, jobs=1))
    assert disturbed.batches == [["a"], ["b"], ["c"]]


def test_rotate_all_never_overwrites_a_newer_envelope(
    registry: Registry, client: kekd.Client
) -> None:
    names = [f"{number:02}" for number in range(12)]
    keks = provision(registry, client, "aws", names)
    other_kek, other = registry.provision("other", "other-aws", client=client)
    keks |= {"04": bytes(other_kek), "other": bytes(other_kek)}

    def overtake(batch: Batch) -> None:
        for name, _, _ in batch:
            match name:
                case "04":  # another KEK
                    client.push_index_kms(None, name, other)
                case "05":  # by another rotation to the same slot
                    registry.rotate(name, "aws-kms", client=client)
                case "06":
                    client.delete_index_kms(None, name)

    with DisturbedClient(client.address, overtake) as disturbed:
        rotations = outcomes(rotate_all(registry, "aws-kms", client=disturbed))
    left = [name for name in (*names, "other") if name != "06"]
    assert rotations == dict.fromkeys(left, "rotated") | {"05": "unchanged"}
    assert stored(client) == dict.fromkeys(left, ("aws-kms", 2))
    del keks["06"]
    assert unwrap_all(registry, client, left) == keks


def test_refused_push_of_an_envelope_does_not_fail_the_others(
    registry: Registry, client: kekd.Client
) -> None:
    names = [f"{number:02}" for number in range(8)]
    provision(registry, client, "aws", names)
    last = replace(client.get_index_kms(None, "03"), version=2**32 - 1)
    etag = client.push_index_kms(None, "03", last)
    rotations = outcomes(rotate_all(registry, "aws-kms", client=client))
    assert rotations == dict.fromkeys(names, "rotated") | {"03": kekd.InvalidEnvelopeError}
    assert client.get_index_kms(None, "03").etag == etag


def test_failed_batch_fails_its_indexes_only(registry: Registry, client: kekd.Client) -> None:
    names = [f"{number:02}" for number in range(12)]
    provision(registry, client, "aws", names)

    def fail(batch: Batch) -> None:
        if len(disturbed.batches) == 2:
            raise kekd.UnavailableError("gone")

    with DisturbedClient(client.address, fail) as disturbed:
        rotations = outcomes(rotate_all(registry, "aws-kms", client=disturbed, jobs=2))
    failed = dict.fromkeys(disturbed.batches[1], kekd.UnavailableError)
    assert rotations == dict.fromkeys(names, "rotated") | failed
    assert {name for name, key in stored(client).items() if key == ("aws", 1)} == set(failed)
    again = outcomes(rotate_all(registry, "aws-kms", client=client))
    assert {name for name, outcome in again.items() if outcome == "rotated"} == set(failed)


def test_rotate_all_waits_for_a_slow_reader(registry: Registry, client: kekd.Client) -> None:
    names = [f"{number:02}" for number in range(40)]
    provision(registry, client, "aws-kms", names)
    asked: list[str] = []
    slots = registry.slots
    rotations = rotate_all(
        observed(slots, asked.append, only="ReEncrypt"), "other-aws-kms", client=client, jobs=2
    )
    next(rotations)
    eventually(lambda: len(asked) >= 2 * 2)
    unwrap_all(registry, client, names)  # takes as long as the calls that are not to come
    assert len(asked) <= 1 + 2 * 2
    assert len(list(rotations)) == 39


def test_ctrl_c_does_not_wait_for_running_rotations(
    registry: Registry, client: kekd.Client
) -> None:
    names = [f"{number:02}" for number in range(20)]
    keks = provision(registry, client, "aws-kms", names)
    asked: list[str] = []

    def hang(_: str) -> None:
        asked.append("")
        if len(asked) > 2:
            assert go_on.wait(PATIENCE)

    def interrupt(_: Batch) -> None:
        if len(asked) > 2:
            raise KeyboardInterrupt

    go_on = threading.Event()
    hanging = observed(registry.slots, hang, only="ReEncrypt")
    with DisturbedClient(client.address, interrupt) as disturbed:
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(rotate_all(hanging, "other-aws-kms", client=disturbed, jobs=2))
        assert time.monotonic() - start < PATIENCE, "the two that hang would take as long"
        go_on.set()
    outcomes(rotate_all(registry, "other-aws-kms", client=client))
    assert stored(client) == dict.fromkeys(names, ("other-aws-kms", 2))
    assert unwrap_all(registry, client, names) == keks


class DeletingClient(kekd.Client):
    """A client after whose listing another client deletes an index."""

    def scan_index_kms(
        self, *arguments: Any, **more: Any
    ) -> Iterator[tuple[str, kekd.KMSBlob | kekd.EnvelopeError]]:
        found = list(super().scan_index_kms(*arguments, **more))
        self.delete_index_kms(None, "b")
        yield from found


def test_deleted_index_has_no_outcome(registry: Registry, client: kekd.Client) -> None:
    provision(registry, client, "aws", ["a", "b", "c"])
    with DeletingClient(client.address) as deleting:
        rotations = rotate_all(registry, "aws-kms", client=deleting)
        assert outcomes(rotations) == {"a": "rotated", "c": "rotated"}
    assert stored(client) == dict.fromkeys(("a", "c"), ("aws-kms", 2))


def test_concurrent_rotate_all_rotates_each_index_once(
    registry: Registry, client: kekd.Client
) -> None:
    names = [f"{number:02}" for number in range(60)]
    keks = provision(registry, client, "aws", names)
    start = threading.Barrier(2)

    def rotate(_: int) -> Outcomes:
        start.wait()
        return outcomes(rotate_all(registry, "aws-kms", client=client))

    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(rotate, range(2)))
    for name in names:
        assert sorted(str(outcome[name]) for outcome in both) == ["rotated", "unchanged"]
    assert stored(client) == dict.fromkeys(names, ("aws-kms", 2))
    assert unwrap_all(registry, client, names) == keks


@pytest.mark.parametrize(("slot", "requests", "rate"), [("aws-kms", 1, 10), ("aws", 3, 30)])
def test_rotate_all_respects_the_rate_limit(
    registry: Registry, client: kekd.Client, slot: str, requests: int, rate: int
) -> None:
    names = [f"{number:02}" for number in range(12)]
    provision(registry, client, slot, names)
    paced = Registry(registry.slots, max_rate=rate)
    start = time.monotonic()
    rotations = rotate_all(paced, f"other-{slot}", client=client)
    assert outcomes(rotations) == dict.fromkeys(names, "rotated")
    assert time.monotonic() - start >= (requests * len(names) - 1) / rate


class CountingClient(kekd.Client):
    """A client that counts the names that were read from its listing."""

    listed = 0

    def list_index_kms(self, *arguments: Any, **more: Any) -> Iterator[str]:
        for name in super().list_index_kms(*arguments, **more):
            self.listed += 1
            yield name


def test_closed_generator_stops_the_rotation(registry: Registry, client: kekd.Client) -> None:
    names = [f"{number:03}" for number in range(100)]
    keks = provision(registry, client, "aws", names)
    jobs, seen = 2, 5
    with CountingClient(client.address) as counting:
        rotations = rotate_all(registry, "aws-kms", client=counting, jobs=jobs)
        assert len(list(islice(rotations, seen))) == seen
        del rotations
        assert counting.listed <= seen + 2 * jobs
    done = Counter(stored(client).values())["aws-kms", 2]
    assert seen <= done <= seen + 2 * jobs
    assert Counter(stored(client).values()) == {("aws-kms", 2): done, ("aws", 1): 100 - done}
    again = outcomes(rotate_all(registry, "aws-kms", client=client))
    assert Counter(again.values()) == {"rotated": 100 - done, "unchanged": done}
    assert unwrap_all(registry, client, names) == keks


def test_failed_listing_raises(registry: Registry, client: kekd.Client) -> None:
    elsewhere = kekd.StorageConfig.disk("/elsewhere")
    with pytest.raises(kekd.PermissionDeniedError):
        list(rotate_all(registry, "aws", client=client, config_location=elsewhere))


@pytest.mark.slow
def test_killed_rotation_of_a_thousand_completes_when_repeated(
    aws: Aws, registry: Registry, client: kekd.Client, tmp_path: Path
) -> None:
    names = [f"index-{number}" for number in range(1000)]
    keks = provision(registry, client, "aws", names)
    path = registry_file.write(tmp_path / "registry.yaml", registry.slots.values())
    command = [sys.executable, "-m", "tests.integration.kek.rotator", str(path), "aws-kms"]
    environment = os.environ | {"KEKD_ADDRESS": client.address, "AWS_ENDPOINT_URL": aws.endpoint}

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as rotator:
        assert rotator.stdout
        reported = [line.split()[0] for line in islice(rotator.stdout, 500)]
        rotator.kill()
    killed = stored(client)
    assert set(killed) == set(names)
    assert all(killed[name] == ("aws-kms", 2) for name in reported)
    done = Counter(killed.values())["aws-kms", 2]
    assert Counter(killed.values()) == {("aws-kms", 2): done, ("aws", 1): 1000 - done}
    assert 500 <= done < 1000

    lines = subprocess.check_output(command, text=True, env=environment).splitlines()
    again = dict(line.split(" ", 1) for line in lines)
    assert len(lines) == 1000
    assert Counter(again.values()) == {"rotated": 1000 - done, "unchanged": done}
    assert stored(client) == dict.fromkeys(names, ("aws-kms", 2))
    assert unwrap_all(registry, client, names) == keks
