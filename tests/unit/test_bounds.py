"""Requests take a bounded part of the daemon's memory, whatever they contain."""

import time
import tracemalloc
from contextlib import suppress

import pytest

from kekd_common.policy import Rule
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.access.audit import audit_record
from kekd_server.access.audit.audit_record import AuditRecord
from kekd_server.access.decision import AccessDecision
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.errors import AccessDeniedError, InvalidRequestError, StoreNotConfiguredError
from kekd_server.model.index_name import IndexName
from kekd_server.model.page_token import PageToken
from kekd_server.observability.logs import LogThrottle
from kekd_server.rpc import convert
from kekd_server.storage.location import DiskLocation, MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store
from tests.fixtures.access import MemoryAuditLog, access_to, request_of

REQUEST = request_of("dns:stranger", is_local=False, peer="ipv4:192.0.2.1:1")


def denied(store: str, index: str) -> AuditRecord:
    return AuditRecord(AccessDecision(REQUEST, "read", store, index, None, generation=1))


def test_cache_drops_the_oldest_beyond_its_bytes() -> None:
    cache = BoundedCache[str, int](max_bytes=10)
    for number, key in enumerate("abc"):
        cache.put(key, number, size=4)
    assert [cache.get(key) for key in "abc"] == [None, 1, 2]
    cache.put("b", 3, size=9)
    assert (cache.get("b"), cache.get("c"), cache.size, len(cache._values)) == (3, None, 9, 1)


def test_cache_keeps_the_youngest_whatever_its_size() -> None:
    cache = BoundedCache[str, int](max_bytes=10)
    for key in "ab":
        cache.put(key, 1, size=100)
    assert (cache.get("a"), cache.get("b"), cache.size) == (None, 1, 100)


def test_entry_in_a_full_cache_costs_about_as_much_as_in_an_empty_one() -> None:
    """Evicting one entry at a time from the front of a dict costs 20 times as much."""
    room = 20_000
    cache = BoundedCache[int, int](max_bytes=room)

    def cpu_seconds(first: int, last: int) -> float:
        start = time.thread_time()
        for number in range(first, last):
            cache.put(number, number, size=1)
        return (time.thread_time() - start) / (last - first)

    filling = cpu_seconds(0, room)
    starts = range(room, 13 * room, 4 * room)
    full = min(cpu_seconds(start, start + 4 * room) for start in starts)  # without interruptions
    assert full < 5 * filling


def test_size_of_an_entry_grows_with_its_texts() -> None:
    assert entry_bytes("x" * 10_000, b"y" * 10_000, None) > 20_000


OTHER_STORES = Rule(name="r", identities=("*",), methods=("*",), stores=("disk:/x*",))


@pytest.mark.parametrize("rules", [[], [OTHER_STORES]], ids=["no rule", "other stores"])
async def test_stores_that_are_not_configured_leave_nothing_behind(rules: list[Rule]) -> None:
    log, store = MemoryAuditLog(), Store(MemoryLocation(), MemoryDriver(), threads=1)
    service = access_to(store, rules=rules, log=log).service

    def kept() -> int:
        log.entries.clear()
        return tracemalloc.get_traced_memory()[0]

    async def call(number: int) -> None:
        location = DiskLocation(f"/x{number:04}".ljust(4096, "x"))
        with suppress(AccessDeniedError, StoreNotConfiguredError):
            await service.get(REQUEST, location, IndexName("i"))

    tracemalloc.start()
    try:
        for number in range(50):  # allocates the objects that are made once
            await call(number)
        before = kept()
        for number in range(50, 550):
            await call(number)
        assert kept() - before < 100 * 4096
    finally:
        tracemalloc.stop()
        store.close()


def test_fields_of_denied_calls_are_not_cached() -> None:
    before = len(audit_record._shared_fields_cache._values)
    for number in range(100):
        audit_record.format_lines([denied(f"disk:/{number}", "i")], "end")
    assert len(audit_record._shared_fields_cache._values) == before


@pytest.mark.parametrize(
    ("location", "field"),
    [
        (pb.StorageConfig(disk=pb.DiskStorage(path="/" + "é" * 2048)), "disk.path has 4097"),
        (pb.StorageConfig(s3=pb.S3Storage(bucket="b" * 256)), "s3.bucket has 256"),
        (pb.StorageConfig(s3=pb.S3Storage(bucket="b", prefix="p" * 1025)), "s3.prefix has 1025"),
        (pb.StorageConfig(s3=pb.S3Storage(bucket="b", region="r" * 256)), "s3.region has 256"),
        (pb.StorageConfig(s3=pb.S3Storage(bucket="b", endpoint="e" * 1025)), "s3.endpoint has"),
    ],
)
def test_location_that_cannot_exist_is_refused(location: pb.StorageConfig, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=field):
        convert.parse_location(pb.GetEnvelopeRequest(config_location=location))


def test_longest_location_is_accepted() -> None:
    longest = pb.S3Storage(
        bucket="b" * 255, prefix="p" * 1024, region="r" * 255, endpoint="e" * 1024
    )
    for location in (
        pb.StorageConfig(disk=pb.DiskStorage(path="/" * 4096)),
        pb.StorageConfig(s3=longest),
    ):
        assert convert.parse_location(pb.GetEnvelopeRequest(config_location=location))


def test_throttle_of_the_log_keeps_no_lines() -> None:
    seldom = LogThrottle()
    tracemalloc.start()
    try:
        for number in range(100):
            assert seldom.is_due(f"{number}" * 10_000)
            assert not seldom.is_due(f"{number}" * 10_000)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_page_token_of_a_long_listing_is_refused() -> None:
    token = PageToken("", "l" * 10_000, IndexName("i"))
    with pytest.raises(InvalidRequestError):
        PageToken.parse(str(token), "")


@pytest.mark.parametrize("text", ["x" * 65_536, "日" * 21_845, "🗝" * 16_384])
def test_long_audit_fields_are_truncated_distinguishably(text: str) -> None:
    cut = [
        audit_record.format_lines([denied(f"disk:/{name}", name)], "end")[0]
        for name in (text, text + "y")
    ]
    assert all(len(line) < 16_384 for line in cut)
    assert f"[{len(text)} characters, sha256 " in cut[0]
    shown = [audit_record.truncate(value) for value in (text, text[:-1] + "y")]
    assert shown[0] != shown[1]
    assert {len(text) for text in shown} == {audit_record.MAX_FIELD_CHARACTERS}


def test_fields_that_can_exist_are_not_cut() -> None:
    for text in ("n" * 247, "disk:/" + "x" * 500):
        assert audit_record.truncate(text) == text
