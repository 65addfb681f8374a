"""What a keyring costs and saves."""

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, cast

import kekd
from bench.keystore import blob_of, name_of
from bench.tables import Goal, Table, count, paired, ratio
from kekd.kek import KeyDescription, Keyring, Registry, Slot, Wrapped
from kekd.kek.encryption_context import EncryptionContext

_INDEXES = 100
_REQUESTS = 10_000
_TTL = 3600.0
"""Longer than a run, so that what is measured is warm throughout."""
_WARM_ROUNDS = 21
_MOST_OF_THEIRS = 1.0
_AT_ONCE = 16


class Backend:
    """A daemon and a KMS in this process, which counts the KEKs that it opens."""

    _caches = None
    """As a client that wasn't made with `cache` has it."""

    def __init__(self) -> None:
        self.opened = 0
        slot = Slot("prod-kms", "aws-kms", "key")
        self.registry = Registry({slot.name: slot}, provider=lambda _: self)
        self.client = cast("kekd.Client", self)

    def get_index_kms(self, _: kekd.StorageConfig | None, index_name: str) -> kekd.KMSBlob:
        return blob_of(int(index_name.rpartition("-")[2]))

    def wrap(self, kek: bytes | bytearray, binding: EncryptionContext | None) -> Wrapped:
        raise NotImplementedError

    def unwrap(self, wrapped: Wrapped, binding: EncryptionContext | None) -> bytearray:  # noqa: ARG002
        self.opened += 1
        return bytearray(wrapped.wrapped_kek[:32])

    def describe(self) -> KeyDescription:
        raise NotImplementedError


def tables(_folder: Path) -> Iterator[Table]:
    yield _warm_table()
    yield _calls_table()


def _warm_table() -> Table:
    backend = Backend()
    keyring = Keyring(backend.registry, backend.client, ttl=_TTL)
    names = [name_of(number) for number in range(_INDEXES)]
    keks = {name: keyring.kek(name) for name in names}
    theirs: Any = importlib.import_module("cyborgdb_service.indexes.kek_cache")  # untyped
    sides: dict[str, Callable[[str], object]] = {
        "Keyring.kek": keyring.kek,
        "CyborgDB Service's kek_cache.get": theirs.get,
        "look-up in a dict": keks.__getitem__,
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for round_number in range(_WARM_ROUNDS):
        for name, kek in keks.items():
            theirs.put(name, bytearray(kek))  # its TTL begins anew
        for side in sorted(sides, reverse=bool(round_number % 2)):
            seconds[side].append(_seconds_a_call(sides[side], names))
    ours, cache, look_up = seconds.values()
    rows = [
        (
            side,
            count(median(times) * 1e9),
            ratio(paired(times, cache)),
            ratio(paired(times, look_up)),
        )
        for side, times in seconds.items()
    ]
    goal = Goal(
        "warm Keyring.kek ÷ CyborgDB Service's kek_cache.get",
        paired(ours, cache),
        "at most",
        _MOST_OF_THEIRS,
    )
    header = ("", "ns", "÷ kek_cache.get", "÷ look-up")
    return Table(f"A warm KEK of {_INDEXES} indexes in turn", header, rows, [goal])


def _seconds_a_call(get: Callable[[str], object], names: Sequence[str]) -> float:
    asked = list(islice(cycle(names), _REQUESTS))
    start = time.perf_counter()
    for name in asked:
        get(name)
    return (time.perf_counter() - start) / _REQUESTS


def _calls_table() -> Table:
    """Asked for by 16 threads, so that many are cold at once."""
    warm, bare = Backend(), Backend()
    keyring = Keyring(warm.registry, warm.client)

    def unwrap(name: str) -> None:
        bare.registry.unwrap(name, bare.client.get_index_kms(None, name))

    asked = [name_of(number % _INDEXES) for number in range(_REQUESTS)]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(keyring.kek, asked))
        list(threads.map(unwrap, asked))
    rows = [
        ("Keyring.kek, within one TTL", count(warm.opened)),
        ("get_index_kms and Registry.unwrap", count(bare.opened)),
    ]
    title = f"Requests to KMS for {_REQUESTS:,} KEKs of {_INDEXES} indexes"
    return Table(title, ("", "requests to KMS"), rows)
