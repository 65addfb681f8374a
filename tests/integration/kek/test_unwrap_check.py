"""`check_unwrap_all` unwraps the KEK of every index."""

import threading
from dataclasses import replace
from typing import Any

import pytest

import kekd
from kekd.kek import Failure, Registry, UnwrapCheck, check_unwrap_all
from kekd.kek.errors import TamperedError
from tests.integration.kek.providers import observed
from tests.patience import PATIENCE


def test_check_unwrap_all_yields_an_outcome_for_each_index(
    registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("a", "aws", client=client)
    registry.provision("b", "aws-kms", client=client)
    registry.provision("c", client=client, kek=bytes(32))
    client.push_index_kms(None, "d", replace(envelope, wrapped_kek=envelope.wrapped_kek[:-1]))
    *good, bad = check_unwrap_all(registry, client=client)
    assert good == [
        UnwrapCheck("a", "unwraps"),
        UnwrapCheck("b", "unwraps"),
        UnwrapCheck("c", "unchecked"),
    ]
    assert isinstance(bad, Failure)
    assert (bad.index_name, type(bad.error)) == ("d", TamperedError)


def test_check_unwrap_all_with_a_prefix_unwraps_only_matching_indexes(
    registry: Registry, client: kekd.Client
) -> None:
    for name in ("a-1", "a-2", "b-1"):
        registry.provision(name, "aws", client=client)
    assert [
        check.index_name for check in check_unwrap_all(registry, client=client, prefix="a-")
    ] == [
        "a-1",
        "a-2",
    ]


def test_check_unwrap_all_overwrites_the_keks(
    registry: Registry, client: kekd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.provision("a", "aws", client=client)
    keks: list[bytearray] = []
    unwrap = registry.unwrap

    def noted(*arguments: Any) -> bytearray:
        keks.append(unwrap(*arguments))
        return keks[-1]

    monkeypatch.setattr(registry, "unwrap", noted)
    assert list(check_unwrap_all(registry, client=client)) == [UnwrapCheck("a", "unwraps")]
    assert keks == [bytearray(32)]


def test_envelope_replaced_during_the_check_is_checked(
    registry: Registry, client: kekd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, envelope = registry.provision("a", "aws", client=client)
    torn = replace(envelope, wrapped_kek=b"torn")
    monkeypatch.setattr(client, "scan_index_kms", lambda *_: iter([("a", torn), ("deleted", torn)]))
    assert list(check_unwrap_all(registry, client=client)) == [UnwrapCheck("a", "unwraps")]


def test_corrupt_record_fails_without_stopping_the_others(
    registry: Registry, client: kekd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, envelope = registry.provision("b", "aws", client=client)
    damaged = kekd.CorruptEnvelopeError("It is damaged.")
    monkeypatch.setattr(
        client, "scan_index_kms", lambda *_: iter([("a", damaged), ("b", envelope)])
    )
    assert list(check_unwrap_all(registry, client=client)) == [
        Failure("a", damaged),
        UnwrapCheck("b", "unwraps"),
    ]


def test_jobs_limits_concurrency(registry: Registry, client: kekd.Client) -> None:
    _, envelope = registry.provision("0", "aws-kms", client=client)
    for number in range(1, 8):
        client.push_index_kms(None, str(number), envelope)
    together = threading.Barrier(4)

    def wait(_: str) -> None:
        together.wait(timeout=PATIENCE)

    slow = observed(registry.slots, wait, only="Decrypt")
    assert len(list(check_unwrap_all(slow, client=client, jobs=4))) == 8
