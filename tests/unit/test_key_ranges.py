"""A listing or watch reads no more of a store than the caller's rules can match."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kekd_common.policy import IndexRange, Rule, common_ranges, evaluate, index_ranges
from kekd_schema import Envelope
from kekd_server.model.errors import AccessDeniedError, WatchFellBehindError
from kekd_server.model.index_name import IndexName
from kekd_server.service import EnvelopeService
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.storage.watch.event import Change, WatchEvent
from tests.fixtures.access import access_to, request_of
from tests.fixtures.writes import create

REQUEST = request_of("dns:a", is_local=False)
text = st.text(alphabet="ab.é~", max_size=4)
glob = st.text(alphabet="ab.é~*?[]", min_size=1, max_size=5)
methods = st.lists(st.sampled_from(["read", "list", "*"]), min_size=1, max_size=2)
rules = st.lists(
    st.builds(
        lambda methods, indexes: {"methods": methods, "indexes": indexes},
        methods,
        st.lists(glob, min_size=1, max_size=3),
    ),
    max_size=4,
)


def policy_of(described: Sequence[dict[str, Any]]) -> list[Rule]:
    return [
        Rule.model_validate({"name": f"{number}", "identities": "dns:a", **rule})
        for number, rule in enumerate(described)
    ]


class RecordingDriver(MemoryDriver):
    """Records the listings and the keys that they read."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_read: set[str] = set()
        self.listings = 0

    def list(self, names: Any, *arguments: Any, **keywords: Any) -> Any:
        self.listings += 1
        found = super().list(names, *arguments, **keywords)
        self.keys_read |= {key for key in self._keys if key.startswith(names.prefixes)}
        return found


async def listed(service: EnvelopeService, prefix: str, size: int) -> list[str]:
    names: list[str] = []
    token = ""
    while True:
        page = await service.list(REQUEST, None, prefix, size, token)
        assert len(page.names) == size or not page.next_token
        names += [name.value for name in page.names]
        if not (token := page.next_token):
            return names


@settings(max_examples=150, deadline=None)
@given(rules, st.sets(text.filter(bool), max_size=20), text, st.integers(1, 4))
def test_listing_equals_a_naive_filter(
    described: Sequence[dict[str, Any]], names: set[str], prefix: str, size: int
) -> None:
    policy, driver = policy_of(described), RecordingDriver()
    for name in names:
        create(driver, IndexName(name), b"1")
    expected = [
        name
        for name in sorted(names, key=lambda name: IndexName(name).key)
        if name.startswith(prefix)
        and evaluate(policy, "dns:a", "list", "memory", name)
        and evaluate(policy, "dns:a", "read", "memory", name)
    ]
    with closing(Store(MemoryLocation(), driver, threads=1)) as store:
        service, *_ = access_to(store, rules=policy)
        try:
            assert asyncio.run(listed(service, prefix, size)) == expected
        except AccessDeniedError:
            assert not evaluate(policy, "dns:a", "list", "memory", None)
            assert not driver.listings


@settings(max_examples=300, deadline=None)
@given(st.lists(glob, max_size=4), st.lists(glob, max_size=4), text)
def test_common_ranges_cover_the_names_of_both_sets_of_rules(
    one: list[str], other: list[str], name: str
) -> None:
    def made(globs: list[str]) -> list[Rule]:
        return policy_of([{"methods": "*", "indexes": glob} for glob in globs])

    ranges = common_ranges(index_ranges(made(one)), index_ranges(made(other)))
    if all(any(rule.matches_index(name) for rule in made(globs)) for globs in (one, other)):
        assert any(range_.covers(IndexRange(name, is_exact=True)) for range_ in ranges)


def store_of(driver: MemoryDriver) -> Store:
    return Store(MemoryLocation(), driver, threads=1)


def rules_of(**indexes_of: Any) -> list[Rule]:
    described = [
        {"methods": [method], "indexes": indexes} for method, indexes in indexes_of.items()
    ]
    return policy_of(described)


@pytest.mark.parametrize(
    ("indexes_of", "prefix"),
    [
        ({"list": "a-*", "read": "b-*"}, ""),
        ({"list": "a-*", "read": "*"}, "other"),
        ({"list": "a-1", "read": "a-?"}, "a-12"),
    ],
)
async def test_listing_that_no_rule_can_match_does_not_reach_the_store(
    indexes_of: dict[str, str], prefix: str
) -> None:
    driver = RecordingDriver()
    create(driver, IndexName("other-1"), b"1")
    service, *_ = access_to(store_of(driver), rules=rules_of(**indexes_of))
    assert await listed(service, prefix, 10) == []
    assert driver.listings == 0


async def test_listing_reads_no_names_that_the_rules_cannot_match() -> None:
    driver = RecordingDriver()
    for name in ("a-1", "a-2", "b-1", "c"):
        create(driver, IndexName(name), b"1")
    rules = rules_of(list=["a-*", "c"], read=["a-1*", "b-*", "c"])
    service, *_ = access_to(store_of(driver), rules=rules)
    assert await listed(service, "", 10) == ["a-1", "c"]
    assert driver.keys_read == {IndexName(name).key for name in ("a-1", "c")}


class Watcher:
    """Records whether it was polled."""

    timeout = 60.0

    def __init__(self) -> None:
        self.was_polled = False

    def note_write(self, name: IndexName) -> None:
        """Does nothing."""

    async def poll(self, _: Any) -> Any:
        self.was_polled = True
        yield []
        await asyncio.Event().wait()


async def test_watch_that_no_rule_can_match_does_not_poll_the_store() -> None:
    watcher = Watcher()
    store = Store(MemoryLocation(), MemoryDriver(), threads=1, watcher=watcher)
    described: list[dict[str, Any]] = [{"methods": ["watch", "read"], "indexes": "a-*"}]
    service, *_ = access_to(store, rules=policy_of(described))
    async with service.watch(REQUEST, None, "b") as watch:
        assert await watch.next(0.001) is WatchEvent.HEARTBEAT
        assert not watcher.was_polled
        assert store.subscribers == 1
        store.end_watches()
        assert await watch.next(60) is None
    async with service.watch(REQUEST, None, "a"):
        assert watcher.was_polled


async def test_idle_watch_ends_when_a_new_policy_makes_something_visible() -> None:
    rules = rules_of(watch="a-*", read="a-*")
    service, policy, _ = access_to(store_of(MemoryDriver()), rules=rules)
    async with service.watch(REQUEST, None, "b") as watch:
        assert await watch.next(0.001) is WatchEvent.HEARTBEAT
        policy.replace(policy_of([{"methods": "*", "indexes": "*"}]))
        with pytest.raises(WatchFellBehindError, match="policy changed"):
            await watch.next(0.001)


async def test_invisible_changes_do_not_drop_a_watcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kekd_server.storage.watch.subscription.MAX_PENDING", 3)
    store = store_of(MemoryDriver())
    service, *_ = access_to(store, rules=rules_of(watch="a-*", read="a-*"))
    async with service.watch(REQUEST, None, "") as watch:
        for name in ("b-1", "b-2", "b-3", "b-4", "a-1"):
            await store.put(IndexName(name), Envelope(provider="none"), if_etag=None)
        event = await watch.next(60)
        assert isinstance(event, Change)
        assert event.name == IndexName("a-1")
