"""Compares rotate_all with only the KMS requests that it must make."""

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
"""Rotations per second and bare requests per second, by round."""

_DELAY_SECONDS = 0.02
"""Simulates a KMS on another machine: the caller waits, and these cores don't compute."""
_IN_MEMORY = Path("/dev/shm")
"""A keystore there makes the same system calls, but needs no disk time."""
_ENVELOPES = 2_000
_JOBS = 16
_ROUNDS = 4
_MIN_SHARE = 0.8
_REGION = "us-east-1"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def tables(folder: Path) -> Iterator[Table]:
    with patch.dict(os.environ, _CREDENTIALS):
        rates = {
            "at once": _measure(folder / "at-once", 0),
            f"{_DELAY_SECONDS * 1e3:.0f} ms late": _measure(folder / "late", _DELAY_SECONDS),
        }
        with TemporaryDirectory(dir=_IN_MEMORY) as memory:
            rates["at once, keystore in tmpfs"] = _measure(Path(memory) / "tmpfs", 0)
    goals = [
        Goal(
            f"rotate_all ÷ bare kms.ReEncrypt, {_JOBS} at once; KMS answers {when}",
            paired(*pair),
            "at least",
            _MIN_SHARE,
        )
        for when, pair in rates.items()
    ]
    title = f"Envelopes a second from one KMS key to another, {_JOBS} at once"
    header = ("KMS answers", "rotate_all", "bare kms.ReEncrypt", "rotate_all ÷ bare")
    rows = [
        (when, *(count(median(rate)) for rate in pair), ratio(paired(*pair)))
        for when, pair in rates.items()
    ]
    yield Table(title, header, rows, goals)


def _measure(folder: Path, delay: float) -> Rates:
    """Uses a KMS that delays its responses by `delay` seconds."""
    folder.mkdir()
    ours, bare = [], []
    with (
        kms.on_loopback(folder, delay) as endpoint,
        daemon.on_socket(folder / "keystore") as server,
        kekd.Client(server.address) as client,
    ):
        config = Config(max_pool_connections=_JOBS)
        aws = boto3.client("kms", endpoint_url=endpoint, region_name=_REGION, config=config)
        keys = [aws.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
        slots = {key: Slot(key, "aws-kms", key, _REGION, endpoint_url=endpoint) for key in keys}
        registry = Registry(slots)
        kek = _fill(registry, client, keys[0])
        wrapped = client.get_index_kms(None, name_of(0)).wrapped_kek
        for round_number in range(_ROUNDS):
            target = keys[(round_number + 1) % 2]
            if round_number % 2:
                bare.append(_re_encrypt(aws, wrapped, keys))
            ours.append(_rotate(registry, client, target))
            if not round_number % 2:
                bare.append(_re_encrypt(aws, wrapped, keys))
        last = name_of(_ENVELOPES - 1)
        assert registry.unwrap(last, client.get_index_kms(None, last)) == kek
    return ours, bare


def _fill(registry: Registry, client: kekd.Client, slot: str) -> bytearray:
    """Provisions the indexes, all with the same KEK."""
    kek, envelope = registry.provision(name_of(0), slot, client=client)
    for number in range(1, _ENVELOPES):
        client.create_index_kms(None, name_of(number), envelope)
    return kek


def _rotate(registry: Registry, client: kekd.Client, slot: str) -> float:
    """Returns the number per second."""
    start = time.perf_counter()
    outcomes = list(rotate_all(registry, slot, client=client, jobs=_JOBS))
    seconds = time.perf_counter() - start
    rotated = [one for one in outcomes if isinstance(one, Rotation) and one.outcome == "rotated"]
    assert len(rotated) == len(outcomes) == _ENVELOPES, outcomes[:1]
    return _ENVELOPES / seconds


def _re_encrypt(client: "KMSClient", wrapped: bytes, keys: Sequence[str]) -> float:
    """Returns the number per second."""
    source, target = keys

    def call(_: int) -> bytes:
        return client.re_encrypt(
            SourceKeyId=source, CiphertextBlob=wrapped, DestinationKeyId=target
        )["CiphertextBlob"]

    start = time.perf_counter()
    with ThreadPoolExecutor(_JOBS) as threads:
        answers = list(threads.map(call, range(_ENVELOPES)))
    seconds = time.perf_counter() - start
    assert len(set(answers)) == _ENVELOPES
    return _ENVELOPES / seconds
