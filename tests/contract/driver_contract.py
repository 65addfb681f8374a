"""The contract of `storage.driver.Driver`, as tests that every driver's own file inherits.

A harness gives raw access to what is stored, past the driver: what the driver wrote is read raw,
and what it reads was written raw, so that a bug of the one can't hide a bug of the other.
"""

import threading
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from kekd_common.policy import IndexRange
from kekd_server.model.errors import (
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    OutcomeUnknownError,
)
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.model.key_ranges import KeyRanges
from kekd_server.storage.driver import Driver
from kekd_server.storage.writes.attempt import WriteAttempt
from tests.fixtures.writes import create, delete, put

NAMES = [
    "plain",
    "a/b",
    ".",
    "..",
    "é",
    "a\0b",
    " ",
    "~",
    "%41",
    "日本語",
    "🗝",
    "-._",
    "UPPER",
    "upper",
    "x.kms.cat",
    "_catalog",
    "n" * 247,
    "é" * 41,
]
NAME = IndexName("my_index")
FIRST = WriteAttempt("0123456789abcdef" * 2)
RETRY = FIRST._replace(is_retry=True)
ALL = NamePrefix("")


class Harness:
    """A driver and the raw side of its store."""

    driver: Driver

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Reads the content of a key without the driver."""

    @abstractmethod
    def write(self, key: str, record: bytes) -> None:
        """Stores the content of a key without the driver, as CyborgDB does."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Removes a key without the driver."""


class DriverContract:
    """The base of a class with a `harness` fixture."""

    def test_create_stores_the_exact_bytes_under_the_key(self, harness: Harness) -> None:
        for name in map(IndexName, NAMES):
            record = b"\0\xff of " + name.value.encode()
            create(harness.driver, name, record)
            assert harness.read(name.key) == record

    def test_get_returns_the_exact_bytes(self, harness: Harness) -> None:
        for name in map(IndexName, NAMES):
            record = b"\0\xff of " + name.value.encode()
            harness.write(name.key, record)
            assert harness.driver.get(name).record == record

    def test_probe_leaves_no_record(self, harness: Harness) -> None:
        harness.driver.check_writes()
        harness.driver.probe()
        assert harness.driver.list(ALL, None, 10, listing="l") == []

    def test_get_of_a_missing_record_raises(self, harness: Harness) -> None:
        with pytest.raises(EnvelopeNotFoundError):
            harness.driver.get(NAME)

    def test_create_over_an_existing_record_is_refused_and_changes_nothing(
        self, harness: Harness
    ) -> None:
        harness.write(NAME.key, b"foreign")
        with pytest.raises(EnvelopeExistsError):
            create(harness.driver, NAME, b"mine")
        assert harness.read(NAME.key) == b"foreign"

    def test_create_after_delete_succeeds(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"first")
        delete(harness.driver, NAME, if_etag=None)
        create(harness.driver, NAME, b"second")
        assert harness.read(NAME.key) == b"second"

    def test_put_replaces_any_record(self, harness: Harness) -> None:
        put(harness.driver, NAME, b"first, and longer", if_etag=None)
        put(harness.driver, NAME, b"second", if_etag=None)
        assert harness.read(NAME.key) == b"second"

    def test_write_returns_the_etag_that_get_returns(self, harness: Harness) -> None:
        created = create(harness.driver, NAME, b"1")
        assert created == harness.driver.get(NAME).etag
        pushed = put(harness.driver, NAME, b"2", if_etag=None).etag
        assert pushed == harness.driver.get(NAME).etag
        replaced = put(harness.driver, NAME, b"3", if_etag=pushed).etag
        assert replaced == harness.driver.get(NAME).etag
        assert len({created, pushed, replaced}) == 3

    def test_write_returns_the_previous_etag(self, harness: Harness) -> None:
        assert put(harness.driver, NAME, b"1", if_etag=None).previous_etag is None
        first = harness.driver.get(NAME).etag
        second, before = put(harness.driver, NAME, b"2", if_etag=None)
        assert before == first
        assert put(harness.driver, NAME, b"3", if_etag=second).previous_etag == second

    def test_write_of_another_program_changes_the_etag(self, harness: Harness) -> None:
        etag = create(harness.driver, NAME, b"1")
        harness.write(NAME.key, b"2")
        assert harness.driver.get(NAME).etag != etag

    def test_put_with_a_stale_etag_is_refused_and_changes_nothing(self, harness: Harness) -> None:
        etag = create(harness.driver, NAME, b"1")
        harness.write(NAME.key, b"2")
        with pytest.raises(EtagMismatchError):
            put(harness.driver, NAME, b"3", if_etag=etag)
        assert harness.read(NAME.key) == b"2"

    @pytest.mark.parametrize("etag", ["a\r\nx: y", "é", " ", '"'])
    def test_put_with_an_impossible_etag_is_refused(self, harness: Harness, etag: str) -> None:
        harness.write(NAME.key, b"1")
        with pytest.raises(EtagMismatchError):
            put(harness.driver, NAME, b"2", if_etag=etag)
        assert harness.read(NAME.key) == b"1"

    def test_put_with_an_etag_without_a_record_is_refused(self, harness: Harness) -> None:
        with pytest.raises(EtagMismatchError):
            put(harness.driver, NAME, b"1", if_etag="0123456789abcdef")
        assert harness.read(NAME.key) is None

    def test_delete_removes_and_returns_the_previous_etag(self, harness: Harness) -> None:
        harness.write(NAME.key, b"1")
        etag = harness.driver.get(NAME).etag
        assert delete(harness.driver, NAME, if_etag=None) == etag
        assert harness.read(NAME.key) is None
        assert delete(harness.driver, NAME, if_etag=None) is None

    def test_delete_with_the_current_etag_removes_the_record(self, harness: Harness) -> None:
        etag = create(harness.driver, NAME, b"1")
        assert delete(harness.driver, NAME, if_etag=etag)
        assert harness.read(NAME.key) is None

    def test_delete_with_a_stale_etag_is_refused_and_changes_nothing(
        self, harness: Harness
    ) -> None:
        etag = create(harness.driver, NAME, b"1")
        harness.write(NAME.key, b"2")
        with pytest.raises(EtagMismatchError):
            delete(harness.driver, NAME, if_etag=etag)
        assert harness.read(NAME.key) == b"2"

    def test_delete_with_an_etag_of_a_missing_record_is_a_no_op(self, harness: Harness) -> None:
        assert not delete(harness.driver, NAME, if_etag="0123456789abcdef")

    def test_list_returns_every_name_once_in_the_order_of_keys(self, harness: Harness) -> None:
        for name in NAMES:
            harness.write(IndexName(name).key, b"1")
        listed = harness.driver.list(ALL, None, len(NAMES) + 1, listing="l")
        assert listed == sorted(map(IndexName, NAMES), key=lambda name: name.key)

    @pytest.mark.parametrize("size", [1, 2, 7])
    def test_pages_of_any_size_join_to_the_whole_listing(self, harness: Harness, size: int) -> None:
        for name in NAMES:
            harness.write(IndexName(name).key, b"1")
        pages = [harness.driver.list(ALL, None, size, listing="l")]
        while pages[-1]:
            pages.append(harness.driver.list(ALL, pages[-1][-1], size, listing="l"))
        assert all(len(page) <= size for page in pages)
        whole = [name for page in pages for name in page]
        assert whole == sorted(map(IndexName, NAMES), key=lambda name: name.key)

    def test_list_with_a_prefix_returns_its_names(self, harness: Harness) -> None:
        for name in ("a", "a.b", "a/1", "a/2", "é1", "b"):
            harness.write(IndexName(name).key, b"1")
        wanted = {"a/": ["a/1", "a/2"], "a.": ["a.b"], "a.kms.cat": [], "é": ["é1"], "c": []}
        for prefix, expected in wanted.items():
            names = harness.driver.list(NamePrefix(prefix), None, 10, listing=prefix)
            assert [name.value for name in names] == expected
        after = IndexName("a/1")
        assert harness.driver.list(NamePrefix("a/"), after, 10, listing="a/") == [IndexName("a/2")]

    @pytest.mark.parametrize("size", [1, 2, 7])
    def test_list_by_ranges_returns_each_name_once_and_in_order(
        self, harness: Harness, size: int
    ) -> None:
        for name in ("a", "a.b", "a.kms.cat", "a/1", "b", "b/1", "c", "é1", "éa"):
            harness.write(IndexName(name).key, b"1")
        wanted = KeyRanges.of(
            [
                *(IndexRange(name, is_exact=True) for name in ("a", "b", "never", "n" * 256)),
                *(IndexRange(prefix) for prefix in ("a.", "a/", "é", "p" * 256)),
            ]
        )
        names = harness.driver.list(wanted, None, size, listing="l")
        while more := harness.driver.list(wanted, names[-1], size, listing="l"):
            names += more
        expected = ["a.b", "a", "a.kms.cat", "a/1", "b", "é1", "éa"]
        assert names == sorted(map(IndexName, expected), key=lambda name: name.key)

    def test_list_continues_after_a_deleted_name(self, harness: Harness) -> None:
        for name in ("a", "b", "c"):
            harness.write(IndexName(name).key, b"1")
        (first,) = harness.driver.list(ALL, None, 1, listing="l")
        delete(harness.driver, first, if_etag=None)
        assert [name.value for name in harness.driver.list(ALL, first, 10, listing="l")] == [
            "b",
            "c",
        ]

    def test_list_ignores_other_files(self, harness: Harness) -> None:
        harness.write(NAME.key, b"1")
        for stray in ("x.cat", "y.kms.cat.123.1.tmp", "%41.kms.cat", "%zz.kms.cat", ".kms.cat"):
            harness.write(stray, b"1")
        assert harness.driver.list(ALL, None, 10, listing="l") == [NAME]

    def test_concurrent_creates_have_one_winner_whose_bytes_are_stored(
        self, harness: Harness
    ) -> None:
        start = threading.Barrier(8)

        def write(number: int) -> int | None:
            start.wait()
            try:
                create(harness.driver, NAME, f"record {number}".encode())
            except EnvelopeExistsError:
                return None
            return number

        with ThreadPoolExecutor(8) as threads:
            winners = [etag for etag in threads.map(write, range(8)) if etag is not None]
        assert len(winners) == 1
        assert harness.read(NAME.key) == f"record {winners[0]}".encode()

    def test_concurrent_conditional_puts_have_one_winner(self, harness: Harness) -> None:
        etag = create(harness.driver, NAME, b"0")
        start = threading.Barrier(8)

        def write(number: int) -> int | None:
            start.wait()
            try:
                put(harness.driver, NAME, f"record {number}".encode(), if_etag=etag)
            except EtagMismatchError:
                return None
            return number

        with ThreadPoolExecutor(8) as threads:
            winners = [etag for etag in threads.map(write, range(8)) if etag is not None]
        assert len(winners) == 1
        assert harness.read(NAME.key) == f"record {winners[0]}".encode()


class AttemptContract:
    """A second base, beside `DriverContract`, for drivers that recognize attempts."""

    def test_repeated_create_returns_the_same_result(self, harness: Harness) -> None:
        etag = create(harness.driver, NAME, b"mine", attempt=FIRST)
        assert create(harness.driver, NAME, b"mine", attempt=RETRY) == etag

    def test_repeated_conditional_put_returns_the_same_result(self, harness: Harness) -> None:
        old = create(harness.driver, NAME, b"old")
        etag = put(harness.driver, NAME, b"mine", if_etag=old, attempt=FIRST).etag
        assert put(harness.driver, NAME, b"mine", if_etag=old, attempt=RETRY).etag == etag

    def test_create_of_another_attempt_is_refused_over_an_equal_record(
        self, harness: Harness
    ) -> None:
        create(harness.driver, NAME, b"mine", attempt=FIRST)
        with pytest.raises(EnvelopeExistsError):
            create(harness.driver, NAME, b"mine", attempt=WriteAttempt("ff" * 16))

    def test_repeated_create_does_not_restore_a_deleted_record(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"mine", attempt=FIRST)
        delete(harness.driver, NAME, if_etag=None)
        with suppress(OutcomeUnknownError):
            create(harness.driver, NAME, b"mine", attempt=RETRY)
        assert harness.read(NAME.key) is None

    def test_repeated_put_does_not_undo_a_later_one(self, harness: Harness) -> None:
        etag = put(harness.driver, NAME, b"mine", if_etag=None, attempt=FIRST).etag
        put(harness.driver, NAME, b"theirs", if_etag=etag)
        with suppress(OutcomeUnknownError):
            put(harness.driver, NAME, b"mine", if_etag=None, attempt=RETRY)
        assert harness.read(NAME.key) == b"theirs"

    def test_repeated_delete_does_not_remove_a_later_record(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"old")
        delete(harness.driver, NAME, if_etag=None, attempt=FIRST)
        create(harness.driver, NAME, b"theirs")
        with suppress(OutcomeUnknownError):
            delete(harness.driver, NAME, if_etag=None, attempt=RETRY)
        assert harness.read(NAME.key) == b"theirs"
