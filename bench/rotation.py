"""rotate_all against the requests to KMS that it can't do without."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from unittest.mock import patch

import boto3
from botocore.config import Config

import kekd
from bench import daemon, kms
from bench.keystore import name_of
from bench.tables import Goal, Table, count, paired, ratio
from kekd.kek import Registry, Rotation, Slot, rotate_all

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

Rates = tuple[list[float], list[float]]
"""Rotations and bare requests a second, of each round."""

_LATE_SECONDS = 0.02
"""What a KMS on another machine is like: it's waited for, and doesn't compute on these cores."""
_IN_MEMORY = Path("/dev/shm")
"""A keystore there takes the same system calls, but no time for a disk."""
_ENVELOPES = 2_000
_AT_ONCE = 16
_ROUNDS = 4
_LEAST_SHARE = 0.8
_REGION = "us-east-1"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def tables(folder: Path) -> Iterator[Table]:
    with patch.dict(os.environ, _CREDENTIALS):
        rates = {
            "at once": _measure(folder / "at-once", 0),
            f"{_LATE_SECONDS * 1e3:.0f} ms late": _measure(folder / "late", _LATE_SECONDS),
        }
        with TemporaryDirectory(dir=_IN_MEMORY) as memory:
            rates["at once, keystore in tmpfs"] = _measure(Path(memory) / "tmpfs", 0)
    goals = [
        Goal(
            f"rotate_all ÷ bare kms.ReEncrypt, {_AT_ONCE} at once; KMS answers {when}",
            paired(*it),
            "at least",
            _LEAST_SHARE,
        )
        for when, it in rates.items()
    ]
    title = f"Envelopes a second from one KMS key to another, {_AT_ONCE} at once"
    header = ("KMS answers", "rotate_all", "bare kms.ReEncrypt", "rotate_all ÷ bare")
    rows = [
        (when, *(count(median(rate)) for rate in it), ratio(paired(*it)))
        for when, it in rates.items()
    ]
    yield Table(title, header, rows, goals)


def _measure(folder: Path, delay: float) -> Rates:
    """With a KMS whose answers come `delay` seconds late."""
    folder.mkdir()
    ours, bare = [], []
    with (
        kms.on_loopback(folder, delay) as endpoint,
        daemon.on_socket(folder / "keystore") as server,
        kekd.Client(server.address) as client,
    ):
        config = Config(max_pool_connections=_AT_ONCE)
        theirs = boto3.client("kms", endpoint_url=endpoint, region_name=_REGION, config=config)
        keys = [theirs.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
        slots = {key: Slot(key, "aws-kms", key, _REGION, endpoint_url=endpoint) for key in keys}
        registry = Registry(slots)
        kek = _fill(registry, client, keys[0])
        wrapped = client.get_index_kms(None, name_of(0)).wrapped_kek
        for round_number in range(_ROUNDS):
            into = keys[(round_number + 1) % 2]
            if round_number % 2:
                bare.append(_re_encrypt(theirs, wrapped, keys))
            ours.append(_rotate(registry, client, into))
            if not round_number % 2:
                bare.append(_re_encrypt(theirs, wrapped, keys))
        last = name_of(_ENVELOPES - 1)
        assert registry.unwrap(last, client.get_index_kms(None, last)) == kek
    return ours, bare


def _fill(registry: Registry, client: kekd.Client, slot: str) -> bytearray:
    """Provisions the indexes, all with the KEK of the first."""
    kek, envelope = registry.provision(name_of(0), slot, client=client)
    for number in range(1, _ENVELOPES):
        client.create_index_kms(None, name_of(number), envelope)
    return kek


def _rotate(registry: Registry, client: kekd.Client, slot: str) -> float:
    """How many a second."""
    start = time.perf_counter()
    outcomes = list(rotate_all(registry, slot, client=client, jobs=_AT_ONCE))
    seconds = time.perf_counter() - start
    rotated = [it for it in outcomes if isinstance(it, Rotation) and it.outcome == "rotated"]
    assert len(rotated) == len(outcomes) == _ENVELOPES, outcomes[:1]
    return _ENVELOPES / seconds


def _re_encrypt(client: "KMSClient", wrapped: bytes, keys: Sequence[str]) -> float:
    """How many a second."""
    source, target = keys

    def call(_: int) -> bytes:
        return client.re_encrypt(
            SourceKeyId=source, CiphertextBlob=wrapped, DestinationKeyId=target
        )["CiphertextBlob"]

    start = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = list(threads.map(call, range(_ENVELOPES)))
    seconds = time.perf_counter() - start
    assert len(set(answers)) == _ENVELOPES
    return _ENVELOPES / seconds
