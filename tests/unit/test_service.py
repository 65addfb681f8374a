"""The use cases without a wire: each write is applied once, however many attempts arrive."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from kekd_common.policy import Rule
from kekd_schema import Envelope
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.model.errors import (
    AccessDeniedError,
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.service import EnvelopeService
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.push import Push
from tests.fixtures.access import Access, access_to, request_of

REQUEST = request_of()
NAME = IndexName("i")
MINE = Envelope(provider="none", version=1)
OTHER = Envelope(provider="none", version=2)
FIRST = WriteAttempt("00" * 16)
RETRY = FIRST._replace(is_retry=True)


@pytest.fixture
def access() -> Iterator[Access]:
    with closing(Store(MemoryLocation(), MemoryDriver(), threads=1)) as store:
        yield access_to(store)


@pytest.fixture
def service(access: Access) -> EnvelopeService:
    return access.service


async def test_create_retry_does_not_bring_back_a_deleted_envelope(
    service: EnvelopeService,
) -> None:
    etag = await service.create(REQUEST, None, NAME, MINE, attempt=FIRST)
    await service.delete(REQUEST, None, NAME, if_etag=None)
    assert await service.create(REQUEST, None, NAME, MINE, attempt=RETRY) == etag
    with pytest.raises(EnvelopeNotFoundError):
        await service.get(REQUEST, None, NAME)


async def test_push_retry_does_not_undo_a_later_push(service: EnvelopeService) -> None:
    etag = await service.push(REQUEST, None, Push(NAME, MINE, None), attempt=FIRST)
    await service.push(REQUEST, None, Push(NAME, OTHER, etag))
    assert await service.push(REQUEST, None, Push(NAME, MINE, None), attempt=RETRY) == etag
    assert (await service.get(REQUEST, None, NAME)).stored.envelope == OTHER


async def test_delete_retry_does_not_remove_a_later_envelope(service: EnvelopeService) -> None:
    await service.create(REQUEST, None, NAME, MINE)
    assert await service.delete(REQUEST, None, NAME, if_etag=None, attempt=FIRST)
    await service.create(REQUEST, None, NAME, OTHER)
    assert await service.delete(REQUEST, None, NAME, if_etag=None, attempt=RETRY)
    assert (await service.get(REQUEST, None, NAME)).stored.envelope == OTHER


async def test_batch_retry_changes_nothing_and_answers_the_same(service: EnvelopeService) -> None:
    pushes = [Push(NAME, MINE, None), Push(IndexName("none"), MINE, "stale")]
    first = (await service.push_many(REQUEST, None, pushes, attempt=FIRST)).results
    await service.push(REQUEST, None, Push(NAME, OTHER, None))
    again = (await service.push_many(REQUEST, None, pushes, attempt=RETRY)).results
    assert again[0] == first[0]
    assert isinstance(again[1], EtagMismatchError)
    assert (await service.get(REQUEST, None, NAME)).stored.envelope == OTHER


def deny(policy: AccessPolicy, *names: str) -> None:
    allowed = tuple(sorted({"a", "b", "c"} - {*names}))
    policy.replace([Rule(name="r", identities=("*",), methods=("*",), indexes=allowed)])


@pytest.mark.parametrize(("denied", "denied_at_retry"), [((), ("a",)), (("a",), ())])
async def test_batch_retry_under_another_policy_answers_each_entry_with_its_own_result(
    access: Access, denied: tuple[str, ...], denied_at_retry: tuple[str, ...]
) -> None:
    service, policy, _ = access
    envelopes = {name: Envelope(provider="none", version=n) for n, name in enumerate("abc", 1)}
    pushes = [Push(IndexName(name), envelope, None) for name, envelope in envelopes.items()]
    deny(policy, *denied)
    first = (await service.push_many(REQUEST, None, pushes, attempt=FIRST)).results
    await service.push(REQUEST, None, Push(IndexName("c"), OTHER, None))
    deny(policy, *denied_at_retry)
    again = (await service.push_many(REQUEST, None, pushes, attempt=RETRY)).results
    assert again[1:] == first[1:]
    assert isinstance(again[0], AccessDeniedError if denied_at_retry else WriteResult)
    assert (await service.get(REQUEST, None, IndexName("c"))).stored.envelope == OTHER


async def test_refused_create_is_decided_again_at_its_retry(service: EnvelopeService) -> None:
    await service.create(REQUEST, None, NAME, OTHER)
    with pytest.raises(EnvelopeExistsError):
        await service.create(REQUEST, None, NAME, MINE, attempt=FIRST)
    await service.delete(REQUEST, None, NAME, if_etag=None)
    assert await service.create(REQUEST, None, NAME, MINE, attempt=RETRY)


async def test_equal_create_of_another_attempt_is_refused(service: EnvelopeService) -> None:
    await service.create(REQUEST, None, NAME, MINE, attempt=FIRST)
    with pytest.raises(EnvelopeExistsError):
        await service.create(REQUEST, None, NAME, MINE, attempt=WriteAttempt("01" * 16, True))
