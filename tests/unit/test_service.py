"""The use cases without a wire: what is only reached when gRPC itself has retried."""

from collections.abc import Iterator
from contextlib import closing
from unittest.mock import patch

import pytest

from kekd_schema import Envelope
from kekd_server.caller import Caller
from kekd_server.errors import EnvelopeExistsError, EtagMismatchError, StoreUnavailableError
from kekd_server.guard import Guard
from kekd_server.metrics import Metrics
from kekd_server.names import IndexName
from kekd_server.service import EnvelopeService
from kekd_server.storage.driver import Written
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory import MemoryDriver
from kekd_server.storage.store import Push, Store
from kekd_server.stores import Stores

CALLER = Caller("listener:unix", is_local=True, peer="")
NAME = IndexName("i")
MINE = Envelope(provider="none", version=1)
OTHER = Envelope(provider="none", version=2)
OLD = Envelope(provider="none", version=3)


@pytest.fixture
def service() -> Iterator[EnvelopeService]:
    store = Store(MemoryLocation(), MemoryDriver(), threads=1)
    with closing(Stores([store])) as stores:
        yield EnvelopeService(stores, Guard(None, Metrics()))


async def test_a_retried_create_finds_its_own_work(service: EnvelopeService) -> None:
    etag = await service.create(CALLER, None, NAME, MINE, retried=False)
    assert await service.create(CALLER, None, NAME, MINE, retried=True) == etag


async def test_a_first_create_is_refused_even_over_an_equal_envelope(
    service: EnvelopeService,
) -> None:
    await service.create(CALLER, None, NAME, MINE, retried=False)
    with pytest.raises(EnvelopeExistsError):
        await service.create(CALLER, None, NAME, MINE, retried=False)


async def test_a_retried_create_is_refused_over_anothers_work(service: EnvelopeService) -> None:
    await service.create(CALLER, None, NAME, OTHER, retried=False)
    with pytest.raises(EnvelopeExistsError):
        await service.create(CALLER, None, NAME, MINE, retried=True)
    assert (await service.get(CALLER, None, NAME)).envelope == OTHER


async def test_a_retried_conditional_push_finds_its_own_work(service: EnvelopeService) -> None:
    stale = await service.create(CALLER, None, NAME, OTHER, retried=False)
    etag = await service.push(CALLER, None, Push(NAME, MINE, stale), retried=False)
    assert await service.push(CALLER, None, Push(NAME, MINE, stale), retried=True) == etag


async def test_a_retried_conditional_push_is_refused_over_anothers_work(
    service: EnvelopeService,
) -> None:
    stale = await service.create(CALLER, None, NAME, MINE, retried=False)
    await service.push(CALLER, None, Push(NAME, OTHER, None), retried=False)
    with pytest.raises(EtagMismatchError):
        await service.push(CALLER, None, Push(NAME, MINE, stale), retried=True)
    assert (await service.get(CALLER, None, NAME)).envelope == OTHER


async def test_a_retried_conditional_push_over_nothing_is_refused(service: EnvelopeService) -> None:
    with pytest.raises(EtagMismatchError):
        await service.push(CALLER, None, Push(NAME, MINE, "gone"), retried=True)


async def test_a_retried_batch_finds_its_own_work_and_no_one_elses(
    service: EnvelopeService,
) -> None:
    mine, rivals, none = IndexName("mine"), IndexName("rival's"), IndexName("none")
    stale = {
        name: await service.create(CALLER, None, name, OLD, retried=False)
        for name in (mine, rivals)
    }
    await service.push(CALLER, None, Push(mine, MINE, stale[mine]), retried=False)
    rivals_etag = await service.push(CALLER, None, Push(rivals, OTHER, None), retried=False)
    pushes = [Push(name, MINE, stale.get(name, "gone")) for name in (mine, rivals, none)]
    for retried in (False, True):
        found, *refused = (await service.push_many(CALLER, None, pushes, retried=retried)).results
        assert isinstance(found, Written if retried else EtagMismatchError)
        assert all(isinstance(it, EtagMismatchError) for it in refused)
    assert (await service.get(CALLER, None, rivals)).etag == rivals_etag


async def test_own_work_is_not_acknowledged_before_it_is_durable() -> None:
    driver = MemoryDriver()
    store = Store(MemoryLocation(), driver, threads=1)
    with closing(Stores([store])) as stores:
        service = EnvelopeService(stores, Guard(None, Metrics()))
        await service.create(CALLER, None, NAME, MINE, retried=False)
        with (
            patch.object(driver, "put", side_effect=StoreUnavailableError("not synced")),
            pytest.raises(StoreUnavailableError),
        ):
            await service.create(CALLER, None, NAME, MINE, retried=True)
