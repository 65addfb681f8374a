"""Listings of several pages."""

import time
from collections.abc import Generator, Iterator
from typing import Any

import grpc
import pytest

import kekd
from tests.integration.client.blocking import OpenClient
from tests.integration.client.scripted import PAGES, Scripted
from tests.patience import PATIENCE, eventually


@pytest.fixture
def client(open_client: OpenClient, scripted: Scripted) -> Iterator[kekd.Client]:
    with open_client(scripted.address, timeout=1e6) as client:
        yield client


@pytest.fixture
def names(client: kekd.Client, scripted: Scripted) -> Iterator[Generator[str, None, None]]:
    """A listing whose first page is being read, and whose second has arrived."""
    names: Any = client.list_index_kms()
    assert scripted.pages == []
    assert next(names) == "name 1"
    eventually(lambda: scripted.pages_ended == ["", "2"])
    yield names
    names.close()


def test_next_page_is_requested_in_advance(
    names: Generator[str, None, None], scripted: Scripted
) -> None:
    assert list(names) == [f"name {number}" for number in range(2, PAGES + 1)]
    assert scripted.pages == ["", "2", "3"]


def test_unneeded_page_is_cancelled(names: Generator[str, None, None], scripted: Scripted) -> None:
    scripted.open.clear()
    assert next(names) == "name 2"
    eventually(lambda: scripted.pages == ["", "2", "3"])
    names.close()
    eventually(lambda: scripted.pages_ended == ["", "2", "3"])


def test_failed_page_raises_after_the_previous_pages(
    names: Generator[str, None, None], scripted: Scripted
) -> None:
    scripted.failure = grpc.StatusCode.PERMISSION_DENIED
    assert next(names) == "name 2"
    with pytest.raises(kekd.PermissionDeniedError):
        next(names)


def test_timeout_applies_to_each_page(client: kekd.Client, scripted: Scripted) -> None:
    names = client.list_index_kms(timeout=5)
    assert next(names) == "name 1"
    eventually(lambda: scripted.pages_ended == ["", "2"])
    scripted.open.clear()
    assert next(names) == "name 2"
    start = time.monotonic()
    with pytest.raises(kekd.DeadlineExceededError):
        next(names)
    assert time.monotonic() - start < PATIENCE


def test_page_that_failed_early_is_requested_again(
    names: Generator[str, None, None], scripted: Scripted
) -> None:
    scripted.failure = grpc.StatusCode.PERMISSION_DENIED
    assert next(names) == "name 2"
    eventually(lambda: scripted.pages_ended == ["", "2", "3"])
    scripted.failure = None
    assert next(names) == "name 3"
    assert list(names) == []


def test_close_during_a_listing_opens_another_connection(
    client: kekd.Client, names: Generator[str, None, None], scripted: Scripted
) -> None:
    scripted.open.clear()
    assert next(names) == "name 2"
    eventually(lambda: scripted.pages == ["", "2", "3"])
    client.close()
    scripted.open.set()
    assert list(names) == ["name 3"]
