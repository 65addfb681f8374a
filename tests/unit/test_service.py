"""The use cases without a wire: what is only reached when gRPC itself has retried."""

from collections.abc import Iterator
from contextlib import closing
from unittest.mock import patch

import pytest

from kekd_schema import Envelope
from kekd_server.errors import EnvelopeExistsError, EtagMismatchError, StoreUnavailableError
from kekd_server.names import IndexName
from kekd_server.service import EnvelopeService
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.stores import Stores

NAME = IndexName("i")
MINE = Envelope(provider="none", version=1)
OTHER = Envelope(provider="none", version=2)


@pytest.fixture
def service() -> Iterator[EnvelopeService]:
    store = Store(MemoryLocation(), MemoryDriver(), threads=1, inline_get=True)
    with closing(Stores([store])) as stores:
        yield EnvelopeService(stores)


async def test_a_retried_create_finds_its_own_work(service: EnvelopeService) -> None:
    etag = await service.create(None, NAME, MINE, retried=False)
    assert await service.create(None, NAME, MINE, retried=True) == etag


async def test_a_first_create_is_refused_even_over_an_equal_envelope(
    service: EnvelopeService,
) -> None:
    await service.create(None, NAME, MINE, retried=False)
    with pytest.raises(EnvelopeExistsError):
        await service.create(None, NAME, MINE, retried=False)


async def test_a_retried_create_is_refused_over_anothers_work(service: EnvelopeService) -> None:
    await service.create(None, NAME, OTHER, retried=False)
    with pytest.raises(EnvelopeExistsError):
        await service.create(None, NAME, MINE, retried=True)
    assert (await service.get(None, NAME)).envelope == OTHER


async def test_a_retried_conditional_push_finds_its_own_work(service: EnvelopeService) -> None:
    stale = await service.create(None, NAME, OTHER, retried=False)
    etag = await service.push(None, NAME, MINE, if_etag=stale, retried=False)
    assert await service.push(None, NAME, MINE, if_etag=stale, retried=True) == etag


async def test_a_retried_conditional_push_is_refused_over_anothers_work(
    service: EnvelopeService,
) -> None:
    stale = await service.create(None, NAME, MINE, retried=False)
    await service.push(None, NAME, OTHER, if_etag=None, retried=False)
    with pytest.raises(EtagMismatchError):
        await service.push(None, NAME, MINE, if_etag=stale, retried=True)
    assert (await service.get(None, NAME)).envelope == OTHER


async def test_a_retried_conditional_push_over_nothing_is_refused(service: EnvelopeService) -> None:
    with pytest.raises(EtagMismatchError):
        await service.push(None, NAME, MINE, if_etag="gone", retried=True)


async def test_own_work_is_not_acknowledged_before_it_is_durable() -> None:
    driver = MemoryDriver()
    store = Store(MemoryLocation(), driver, threads=1, inline_get=True)
    with closing(Stores([store])) as stores:
        service = EnvelopeService(stores)
        await service.create(None, NAME, MINE, retried=False)
        with (
            patch.object(driver, "put", side_effect=StoreUnavailableError("not synced")),
            pytest.raises(StoreUnavailableError),
        ):
            await service.create(None, NAME, MINE, retried=True)
