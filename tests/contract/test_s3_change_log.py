"""The change log of a bucket reports the writes of every daemon, and never delays one."""

import logging
import math
import threading
from collections.abc import Callable, Collection, Iterator
from itertools import chain, repeat
from unittest.mock import Mock

import pytest

from kekd_server.model.index_name import IndexName
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client, make_client
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.errors import S3Error
from kekd_server.storage.s3.watch import change_log, log_writer
from kekd_server.storage.s3.watch.change_log import S3ChangeLog
from kekd_server.storage.s3.watch.log_reader import S3LogReader
from kekd_server.storage.s3.watch.log_writer import S3LogWriter
from tests.contract.scripted_s3 import (
    BUCKET,
    MISSING,
    PUT_DONE,
    ScriptedS3,
    error,
    listing,
)
from tests.fixtures.s3 import REGION, Bucket
from tests.fixtures.writes import create, delete, put
from tests.patience import PATIENCE, eventually

NAME, OTHER = IndexName("one"), IndexName("other")
RECORD = b"record"


def never(_: int) -> bool:
    return False


@pytest.fixture
def location(bucket: Bucket) -> S3Location:
    return S3Location(bucket.name, "some/prefix", REGION, bucket.endpoint)


@pytest.fixture
def client(location: S3Location) -> Iterator[S3Client]:
    client = make_client(location)
    yield client
    client.close()


@pytest.fixture
def log(client: S3Client, location: S3Location) -> S3ChangeLog:
    return S3ChangeLog(client, location)


@pytest.fixture
def reader(log: S3ChangeLog) -> S3LogReader:
    reader = S3LogReader(log, never)
    reader.start()
    return reader


@pytest.fixture
def make_writer(log: S3ChangeLog) -> Iterator[Callable[[], S3LogWriter]]:
    writers: list[S3LogWriter] = []

    def make() -> S3LogWriter:
        writers.append(S3LogWriter(log, "s3:test"))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def read_all(reader: S3LogReader, *keys: str) -> None:
    """Waits until the reader has returned these keys."""
    missing = set(keys)

    def has_read() -> bool:
        missing.difference_update(reader.read() or ())
        return not missing

    eventually(has_read)


def test_each_write_of_a_driver_is_logged(
    client: S3Client, location: S3Location, log: S3ChangeLog, reader: S3LogReader
) -> None:
    driver = S3Driver(client, location, S3LogWriter(log, "s3:test"))
    driver.open(create=True)
    etag = create(driver, NAME, RECORD)
    read_all(reader, NAME.key)
    put(driver, NAME, b"new", if_etag=etag)
    read_all(reader, NAME.key)
    delete(driver, NAME, if_etag=None)
    read_all(reader, NAME.key)
    driver.close()


def test_writers_share_the_numbers(
    make_writer: Callable[[], S3LogWriter], reader: S3LogReader, log: S3ChangeLog
) -> None:
    keys = [f"key{number}" for number in range(20)]
    writers = [make_writer() for _ in range(4)]
    for number, key in enumerate(keys):
        writers[number % len(writers)].append(key)
    read_all(reader, *keys)
    entries = range(1, log.find_last() + 1)
    assert sorted(key for number in entries for key in log.read(number) or ()) == sorted(keys)
    for number in entries:  # a writer notes its entry after the bucket has it
        eventually(lambda: any(writer.has_written(number) for writer in writers))  # noqa: B023
        assert sum(writer.has_written(number) for writer in writers) == 1


def test_own_entries_are_skipped(log: S3ChangeLog) -> None:
    log.write(1, ["own"])
    log.write(2, ["foreign"])
    reader = S3LogReader(log, lambda number: number == 3)
    reader.start()
    log.write(3, ["own"])
    log.write(4, ["foreign"])
    assert reader.read() == {"foreign"}


def test_pending_keys_are_written_at_close(
    make_writer: Callable[[], S3LogWriter], reader: S3LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_CLOSE_TIMEOUT", PATIENCE)
    writer = make_writer()
    writer.append("key")
    writer.close()
    assert reader.read() == {"key"}


def test_old_entries_are_removed(log: S3ChangeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_log, "RETAINED", 3)
    for number in range(1, 6):
        assert log.write(number, ["key"])
    assert [number for number in range(1, 6) if log.read(number)] == [3, 4, 5]


def test_entries_that_a_killed_daemon_left_are_removed(
    log: S3ChangeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        log.write(number, ["key"])
    monkeypatch.setattr(change_log, "RETAINED", 3)
    log.remove_old()
    assert log.find_last() == 5
    assert [number for number in range(1, 6) if log.read(number)] == [3, 4, 5]


def test_reader_that_fell_behind_asks_for_a_listing(
    log: S3ChangeLog, reader: S3LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "RETAINED", 3)
    for number in range(1, 6):
        log.write(number, [f"key{number}"])
    monkeypatch.setattr(reader, "_next_gap_check", 0.0)
    assert reader.read() is None
    log.write(6, ["key6"])
    assert reader.read() == {"key6"}


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1, null]}', b"null", b"[" * 100_000],
)
def test_invalid_entry_is_skipped(
    bucket: Bucket, log: S3ChangeLog, reader: S3LogReader, content: bytes
) -> None:
    key = f"some/prefix/_kekd/log/{1:020}"
    bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=content)
    log.write(2, ["key"])
    assert reader.read() == {"key"}


@pytest.fixture
def scripted_log(scripted_s3: ScriptedS3, aws_credentials: dict[str, str]) -> S3ChangeLog:
    location = S3Location(BUCKET, "", REGION, scripted_s3.endpoint)
    return S3ChangeLog(make_client(location), location)


DENIED = error("403 Forbidden", "AccessDenied")


def test_log_is_switched_off_with_one_warning_if_s3_denies_access(
    scripted_s3: ScriptedS3, scripted_log: S3ChangeLog, caplog: pytest.LogCaptureFixture
) -> None:
    scripted_s3.play(DENIED)
    with caplog.at_level(logging.WARNING):
        writer = S3LogWriter(scripted_log, "s3:scripted")
        writer.append("key")
        eventually(lambda: not scripted_log.is_on)
        writer.append("key")
        assert S3LogReader(scripted_log, never).read() == set()
        writer.close()
    (line,) = caplog.messages
    assert "the change log is off: S3 responded with AccessDenied" in line


def test_failing_log_is_reported_once_and_written_later(
    scripted_s3: ScriptedS3, scripted_log: S3ChangeLog, caplog: pytest.LogCaptureFixture
) -> None:
    down = error("500 Internal Server Error", "InternalError")
    scripted_s3.play(listing(), listing(), *[down] * 3, PUT_DONE)
    writer = S3LogWriter(scripted_log, "s3:scripted")
    writer.append("key")
    eventually(lambda: writer.has_written(1))
    writer.close()
    (line,) = caplog.messages
    assert "cannot write the change log" in line


def test_taken_number_is_followed_by_the_next_free_one(
    scripted_s3: ScriptedS3, scripted_log: S3ChangeLog
) -> None:
    taken = error("412 Precondition Failed", "PreconditionFailed")
    scripted_s3.play(listing(), listing(), taken, listing(f"_kekd/log/{7:020}"), PUT_DONE, MISSING)
    writer = S3LogWriter(scripted_log, "s3:scripted")
    writer.append("key")
    eventually(lambda: writer.has_written(8))
    writer.close()


def test_read_without_news_takes_one_request(
    scripted_s3: ScriptedS3, scripted_log: S3ChangeLog
) -> None:
    scripted_s3.play(listing())
    reader = S3LogReader(scripted_log, never)
    reader.start()
    scripted_s3.play(MISSING)
    for _ in range(3):
        assert reader.read() == set()
    assert scripted_s3.requests == [f"GET /{BUCKET}/_kekd/log/{1:020}"] * 3


def record_delays(writer: S3LogWriter, monkeypatch: pytest.MonkeyPatch, count: int) -> list[float]:
    """Returns how long the writer collects keys, up to its end after so many times."""
    delays: list[float] = []

    def wait(delay: float) -> bool:
        delays.append(delay)
        return len(delays) == count

    monkeypatch.setattr(writer, "_is_closed", Mock(wait=wait))
    writer.append("key")
    eventually(lambda: len(delays) == count)
    return delays


def assert_that_delays_double(delays: list[float]) -> None:
    bounds = [0.2, *(min(0.2 * 2**number, 5.0) for number in range(1, len(delays)))]
    assert all(bound / 2 <= delay <= bound for delay, bound in zip(delays, bounds, strict=True))


def test_failing_writes_are_tried_less_and_less_often(
    scripted_s3: ScriptedS3, scripted_log: S3ChangeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_s3.play(error("403 Forbidden", "SignatureDoesNotMatch"))
    writer = S3LogWriter(scripted_log, "s3:scripted")
    assert_that_delays_double(record_delays(writer, monkeypatch, 12))


def fake_log(write: Callable[[int, Collection[str]], bool]) -> Mock:
    return Mock(S3ChangeLog, is_on=True, find_last=lambda after: after, write=write)


def test_writer_that_never_gets_a_number_tries_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = S3LogWriter(fake_log(lambda _number, _keys: False), "s3:test")
    assert_that_delays_double(record_delays(writer, monkeypatch, 12))


def test_writer_whose_numbers_were_taken_collects_keys_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = chain([False, False], repeat(True))

    def write(_number: int, _keys: Collection[str]) -> bool:
        writer.append("next")
        return next(outcomes)

    writer = S3LogWriter(fake_log(write), "s3:test")
    assert record_delays(writer, monkeypatch, 3) == pytest.approx([0.2, 0.6, 0.2])


def test_writer_whose_number_was_taken_adds_the_keys_appended_since(
    make_writer: Callable[[], S3LogWriter],
    log: S3ChangeLog,
    reader: S3LogReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = log.write
    attempts: list[tuple[int, Collection[str]]] = []

    def write_late(number: int, keys: Collection[str]) -> bool:
        attempts.append((number, list(keys)))
        if number == 1:
            write(number, ["foreign"])
            writer.append("second")
        return write(number, keys)

    monkeypatch.setattr(log, "write", write_late)
    writer = make_writer()
    writer.append("first")
    read_all(reader, "foreign", "first", "second")
    assert attempts == [(1, ["first"]), (2, ["first", "second"])]


def test_uncertain_write_stays_uncertain_at_the_next_attempt() -> None:
    written: list[int] = []

    def write(number: int, _keys: Collection[str]) -> bool:
        is_first = not written
        written.append(number)
        if is_first:
            writer.append("key")
        return not is_first

    writer = S3LogWriter(fake_log(write), "s3:test")
    writer.append("key", is_certain=False)
    eventually(lambda: len(written) == 2)
    writer.close()
    assert not writer.has_written(written[-1])


def test_idle_writer_finds_the_entries_of_others(
    make_writer: Callable[[], S3LogWriter],
    log: S3ChangeLog,
    reader: S3LogReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their entries may have pushed out the one after its own last one."""
    monkeypatch.setattr(change_log, "RETAINED", 3)
    writer = make_writer()
    writer.append("first")
    read_all(reader, "first")
    for number in range(2, 9):
        assert log.write(number, [f"key{number}"])
        read_all(reader, f"key{number}")
    monkeypatch.setattr(writer, "_next_search", 0.0)
    writer.append("second")
    read_all(reader, "second")


def test_reader_of_an_emptied_log_asks_for_a_listing(
    bucket: Bucket, log: S3ChangeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        log.write(number, ["key"])
    reader = S3LogReader(log, never)
    reader.start()
    for number in range(1, 4):
        bucket.s3.delete_object(Bucket=bucket.name, Key=f"some/prefix/_kekd/log/{number:020}")
    log.write(1, ["new"])
    monkeypatch.setattr(reader, "_next_gap_check", 0.0)
    assert reader.read() is None
    log.write(2, ["newer"])
    assert reader.read() == {"newer"}


def test_objects_of_other_programs_in_the_log_are_ignored(bucket: Bucket, log: S3ChangeLog) -> None:
    log.write(1, ["key"])
    for name in ("9", "9" * 20, "x" * 20):
        bucket.s3.put_object(Bucket=bucket.name, Key=f"some/prefix/_kekd/log/{name}")
    assert log.find_last() == 1
    assert log.find_first(after=1) is None


def test_many_keys_are_left_to_a_listing(log: S3ChangeLog, reader: S3LogReader) -> None:
    for number in range(1, 4):
        log.write(number, [f"key{number}-{key}" for key in range(600)])
    assert reader.read() is None
    assert reader.read() == set()


def test_uncertain_write_is_read_by_its_own_daemon_too(
    make_writer: Callable[[], S3LogWriter], log: S3ChangeLog
) -> None:
    writer = make_writer()
    reader = S3LogReader(log, writer.has_written)
    reader.start()
    writer.append("key", is_certain=False)
    read_all(reader, "key")


def test_missing_entry_ends_a_read(
    log: S3ChangeLog, reader: S3LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another daemon may write it after the reader asked for it, and before it gets the next."""
    monkeypatch.setattr(reader, "_next_gap_check", math.inf)
    for number in range(1, 31):
        if number != 17:
            log.write(number, [f"key{number}"])
    assert reader.read() == {f"key{number}" for number in range(1, 17)}
    log.write(17, ["key17"])
    assert reader.read() == {f"key{number}" for number in range(17, 31)}


def test_read_that_fails_at_one_of_many_entries_loses_none(
    log: S3ChangeLog, reader: S3LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 31):
        log.write(number, [f"key{number}"])
    read = log.read

    def read_most(number: int) -> Collection[str] | None:
        if number == 17:
            raise S3Error(500, "InternalError", "", "")
        return read(number)

    with monkeypatch.context() as patch:
        patch.setattr(log, "read", read_most)
        with pytest.raises(S3Error, match="InternalError"):
            reader.read()
    assert reader.read() == {f"key{number}" for number in range(1, 31)}


def test_many_entries_are_read_several_at_once() -> None:
    is_concurrent = threading.Event()
    in_flight = threading.Semaphore(1)

    def read(number: int) -> Collection[str] | None:
        if number > 20:
            if in_flight.acquire(blocking=False):
                assert is_concurrent.wait(PATIENCE)
            else:
                is_concurrent.set()
        return [f"key{number}"] if number <= 30 else None

    log = Mock(S3ChangeLog, is_on=True, find_last=lambda: 0, read=read)
    reader = S3LogReader(log, never)
    reader.start()
    assert reader.read() == {f"key{number}" for number in range(1, 31)}
