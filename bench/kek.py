"""Measures the time of a warm keyring, and the KMS requests that it saves."""

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
from kekd.kek import KeyDescription, Keyring, Registry, Slot, WrappedKek
from kekd.kek.encryption_context import EncryptionContext

_INDEXES = 100
_REQUESTS = 10_000
_TTL = 3600.0
"""Longer than a run, so that all measured KEKs are warm."""
_WARM_ROUNDS = 21
_MAX_RATIO = 1.0
_THREADS = 16


class Backend:
    """A fake daemon and KMS in this process, which counts the KEKs it unwraps."""

    _caches = None
    """The value in a client without a cache."""

    def __init__(self) -> None:
        self.unwrapped = 0
        slot = Slot("prod-kms", "aws-kms", "key")
        self.registry = Registry({slot.name: slot}, provider=lambda _: self)
        self.client = cast("kekd.Client", self)

    def get_index_kms(self, _: kekd.StorageConfig | None, index_name: str) -> kekd.KMSBlob:
        return blob_of(int(index_name.rpartition("-")[2]))

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek:
        raise NotImplementedError

    def unwrap(
        self,
        wrapped: WrappedKek,
        encryption_context: EncryptionContext | None,  # noqa: ARG002
    ) -> bytearray:
        self.unwrapped += 1
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
    kek_cache: Any = importlib.import_module("cyborgdb_service.indexes.kek_cache")  # untyped
    gets: dict[str, Callable[[str], object]] = {
        "Keyring.kek": keyring.kek,
        "CyborgDB Service's kek_cache.get": kek_cache.get,
        "look-up in a dict": keks.__getitem__,
    }
    seconds: dict[str, list[float]] = {label: [] for label in gets}
    for round_number in range(_WARM_ROUNDS):
        for name, kek in keks.items():
            kek_cache.put(name, bytearray(kek))  # restarts its TTL
        for label in sorted(gets, reverse=bool(round_number % 2)):
            seconds[label].append(_seconds_per_call(gets[label], names))
    ours, cache, look_up = seconds.values()
    rows = [
        (
            label,
            count(median(times) * 1e9),
            ratio(paired(times, cache)),
            ratio(paired(times, look_up)),
        )
        for label, times in seconds.items()
    ]
    goal = Goal(
        "warm Keyring.kek ÷ CyborgDB Service's kek_cache.get",
        paired(ours, cache),
        "at most",
        _MAX_RATIO,
    )
    header = ("", "ns", "÷ kek_cache.get", "÷ look-up")
    return Table(f"A warm KEK of {_INDEXES} indexes in turn", header, rows, [goal])


def _seconds_per_call(get: Callable[[str], object], names: Sequence[str]) -> float:
    sequence = list(islice(cycle(names), _REQUESTS))
    start = time.perf_counter()
    for name in sequence:
        get(name)
    return (time.perf_counter() - start) / _REQUESTS


def _calls_table() -> Table:
    """Uses 16 threads, so that many KEKs are cold at the same time."""
    warm, bare = Backend(), Backend()
    keyring = Keyring(warm.registry, warm.client)

    def unwrap(name: str) -> None:
        bare.registry.unwrap(name, bare.client.get_index_kms(None, name))

    names = [name_of(number % _INDEXES) for number in range(_REQUESTS)]
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(keyring.kek, names))
        list(threads.map(unwrap, names))
    rows = [
        ("Keyring.kek, within one TTL", count(warm.unwrapped)),
        ("get_index_kms and Registry.unwrap", count(bare.unwrapped)),
    ]
    title = f"Requests to KMS for {_REQUESTS:,} KEKs of {_INDEXES} indexes"
    return Table(title, ("", "requests to KMS"), rows)
