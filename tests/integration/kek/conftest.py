"""Slots of both providers, and a daemon with two stores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import kekd
from kekd.kek import Registry, Slot
from tests.fixtures.daemon import Daemon
from tests.fixtures.kms import Aws
from tests.fixtures.s3 import CREDENTIALS, REGION


@pytest.fixture(scope="package")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shared daemon's default store."""
    return tmp_path_factory.mktemp("keystore")


@pytest.fixture
def memory() -> kekd.StorageConfig:
    """The shared daemon's other store."""
    return kekd.StorageConfig.memory()


@pytest.fixture(scope="package")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory, keystore: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), "--disk", str(keystore), "--memory")
    daemon.wait()
    yield daemon
    daemon.kill()


@pytest.fixture
def client(shared_daemon: Daemon, memory: kekd.StorageConfig) -> Iterator[kekd.Client]:
    """A client of the shared daemon, whose stores are empty."""
    with kekd.Client(shared_daemon.address) as client:
        for store in (None, memory):
            for index_name in list(client.list_index_kms(store)):
                client.delete_index_kms(store, index_name)
        yield client


@pytest.fixture(scope="package")
def slots(aws_endpoint: str) -> dict[str, Slot]:
    """For each provider: a slot with its name, one with another key, and one with binding."""
    where: dict[str, Any] = {"endpoint_url": aws_endpoint, "region_name": REGION}
    key_id, secret = CREDENTIALS.values()
    where |= {"aws_access_key_id": key_id, "aws_secret_access_key": secret}
    aws = Aws(aws_endpoint, boto3.client("kms", **where), boto3.client("secretsmanager", **where))
    slots = []
    for prefix, is_bound in (("", False), ("other-", False), ("bound-", True)):
        alias = aws.new_alias(aws.new_key())
        slots += [
            aws.slot(f"{prefix}aws", "aws", aws.new_secret(), encryption_context=is_bound),
            aws.slot(f"{prefix}aws-kms", "aws-kms", alias, encryption_context=is_bound),
        ]
    return {slot.name: slot for slot in slots}


@pytest.fixture
def registry(slots: dict[str, Slot], aws_credentials: dict[str, str]) -> Registry:
    """A registry of these slots. A test may change them."""
    return Registry(slots)
