"""kekctl audit reads audit files, also rotated, compressed, damaged or hostile ones."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from tests.fixtures.daemon import BIN, clean_environment
from tests.fixtures.kekctl import json_lines, kekctl
from tests.patience import PATIENCE

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOSTILE = "red\x1b[31m,\x9b31m,\u202e\nnewline"


def entry(second: int = 0, **fields: Any) -> dict[str, Any]:
    time = (START + timedelta(seconds=second)).isoformat(timespec="microseconds")
    return {
        "time": time.replace("+00:00", "Z"),
        "event": "end",
        "request_id": f"request-{second}",
        "identity": "spiffe://example/app",
        "peer": "unix:",
        "method": "read",
        "store": "disk:/keystore",
        "index": f"index-{second}",
        "etag_before": "",
        "etag_after": "",
        "decision": "allowed",
        "rule": "readers",
        "code": "OK",
        "duration_ms": 1.25,
    } | fields


def write(second: int, **fields: Any) -> list[dict[str, Any]]:
    """Returns the two entries of a write."""
    begun = entry(second, method="push", event="begin", **fields)
    begun["code"], begun["duration_ms"] = "", None
    return [begun, entry(second, method="push", **fields)]


def text(*entries: object) -> str:
    return "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in entries)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def seconds(output: str) -> list[int]:
    """Returns the numbers of the entries in the output."""
    return [int(line.partition("index-")[2].partition(":")[0]) for line in output.splitlines()]


def test_damaged_archive_is_reported_by_tail(tmp_path: Path) -> None:
    file = tmp_path / "audit.log.gz"
    file.write_bytes(gzip.compress(text(*(entry(second) for second in range(200))).encode())[:-200])
    assert "damaged or truncated" in kekctl("audit", "tail", file, code=1).stderr


def test_version_is_shown_after_its_index(log: Path) -> None:
    log.write_text(text(entry(0, index="my_index", version_id="17")))
    assert " my_index version 17: OK" in kekctl("audit", "tail", log).stdout


def test_decision_is_a_line(log: Path) -> None:
    denied = entry(1, decision="denied", rule="", index="", code="PERMISSION_DENIED")
    log.write_text(text(*write(0, index="my_index"), denied))
    assert kekctl("audit", "tail", log).stdout.splitlines() == [
        (
            "2026-01-31T12:00:00Z allowed by readers:"
            " spiffe://example/app push disk:/keystore my_index: OK 1.25 ms"
        ),
        (
            "2026-01-31T12:00:01Z denied:"
            ' spiffe://example/app read disk:/keystore "": PERMISSION_DENIED 1.25 ms'
        ),
    ]


def test_json_output_keeps_unknown_fields(log: Path) -> None:
    lines = [*write(0), entry(1, invented={"later": [1]})]
    log.write_text(text(*lines))
    assert json_lines(kekctl("audit", "tail", log, "--output", "json")) == lines
    assert json_lines(kekctl("audit", "search", log, "-o", "json", "--method", "push")) == lines[:2]


def test_tail_shows_the_last_lines(log: Path) -> None:
    log.write_text(text(*map(entry, range(30))))
    assert seconds(kekctl("audit", "tail", log).stdout) == list(range(20, 30))
    assert seconds(kekctl("audit", "tail", log, "-n", "2").stdout) == [28, 29]


def test_tail_reads_the_file_of_the_daemons_variable_or_standard_input(log: Path) -> None:
    log.write_text(text(entry(7)))
    assert seconds(kekctl("audit", "tail", env={"KEKD_AUDIT": str(log)}).stdout) == [7]
    assert seconds(kekctl("audit", "tail", stdin=text(entry(8))).stdout) == [8]
    assert seconds(kekctl("audit", "tail", "--follow", stdin=text(entry(9))).stdout) == [9]


def test_write_without_its_end_is_shown(log: Path) -> None:
    log.write_text(text(write(0)[0], *write(1)))
    assert [
        ": unfinished" in line for line in kekctl("audit", "tail", log).stdout.splitlines()
    ] == [
        False,
        True,
    ]


# Searching


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (["--identity", "spiffe://example/*"], [0, 1, 2, 3, 5]),
        (["--identity", "listener:unix"], [4]),
        (["--method", "push"], [2]),
        (["--index", "index-[12]"], [1, 2]),
        (["--store", "s3:*"], [3]),
        (["--denied"], [5]),
        (["--code", "NOT_FOUND"], [1]),
        (["--since", "2026-01-31T12:00:04Z"], [4, 5]),
        (["--until", "2026-01-31T12:00:02"], [0, 1]),
        (["--since", "2026-01-31T13:00:01+01:00", "--until", "2026-01-31T12:00:03Z"], [1, 2]),
        (["--since", "2026-02-01"], []),
        (["--since", "5m"], []),
        (["--identity", "spiffe:*", "--code", "OK", "--index", "*-3"], [3]),
        ([], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_search_requires_every_condition(log: Path, query: list[str], shown: list[int]) -> None:
    denied = entry(5, decision="denied", code="PERMISSION_DENIED")
    s3, socket = entry(3, store="s3:bucket"), entry(4, identity="listener:unix")
    log.write_text(text(entry(0), entry(1, code="NOT_FOUND"), *write(2), s3, socket, denied))
    assert seconds(kekctl("audit", "search", log, *query).stdout) == shown


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", ""])
def test_invalid_time_is_refused(log: Path, time: str) -> None:
    assert "write 2026-01-31" in kekctl("audit", "search", log, "--since", time, code=2).stderr


def test_rotated_files_are_searched_in_the_order_given(log: Path) -> None:
    old = log.with_suffix(".1.gz")
    begin, end = write(1)
    old.write_bytes(gzip.compress(text(entry(0), begin).encode()))
    log.write_text(text(end, entry(2)))
    assert seconds(kekctl("audit", "search", old, log).stdout) == [0, 1, 2]


def test_unreadable_file_does_not_stop_the_others(log: Path, tmp_path: Path) -> None:
    cut, damaged = tmp_path / "cut.gz", tmp_path / "damaged.gz"
    whole = gzip.compress(os.urandom(1000))
    cut.write_bytes(whole[:500])
    damaged.write_text("no gzip")
    log.write_text(text(entry(3)))
    done = kekctl("audit", "search", cut, damaged, tmp_path / "none", log, code=1)
    assert seconds(done.stdout) == [3]
    for file in (cut, damaged, tmp_path / "none"):
        assert f"kekctl: {file}: " in done.stderr
    assert "No such file" in kekctl("audit", "tail", tmp_path / "none", code=1).stderr


# Invalid and hostile lines


BAD_LINES = [
    "",
    "{",
    "[]",
    "null",
    '"text"',
    json.dumps(entry() | {"time": "now"}),
    json.dumps(entry() | {"time": "2026-01-31T12:00:00"}),
    json.dumps(entry() | {"time": 7}),
    json.dumps(entry() | {"event": "middle"}),
    json.dumps(entry() | {"identity": ["list"]}),
    json.dumps(entry() | {"duration_ms": "long"}),
    json.dumps({"message": "a line of the log"}),
    "[" * 100_000,
    '{"time": ' + "1" * 5000 + "}",
]


@pytest.mark.parametrize("command", ["tail", "search"])
def test_line_that_is_no_entry_is_reported_and_skipped(log: Path, command: str) -> None:
    log.write_text(text(entry(0), *(f"{bad}\n" for bad in BAD_LINES), entry(2)))
    done = kekctl("audit", command, log)
    assert seconds(done.stdout) == [0, 2]
    reported = [line.partition(" skipped: ")[0] for line in done.stderr.splitlines()]
    assert reported == [f"kekctl: {log}:{number}:" for number in range(2, 2 + len(BAD_LINES))]


def test_line_that_is_not_utf8_is_skipped(log: Path) -> None:
    log.write_bytes(b"\xff\xfe\n" + text(entry(1)).encode())
    assert seconds(kekctl("audit", "tail", log).stdout) == [1]


@pytest.mark.parametrize("output", ["table", "json"])
def test_no_entry_can_steer_the_terminal(log: Path, output: str) -> None:
    names = ["identity", "method", "store", "index", "rule", "code"]
    hostile = [json.dumps(entry() | {name: HOSTILE}, ensure_ascii=False) for name in names]
    log.write_text("".join(f"{line}\n" for line in hostile))
    lines = kekctl("audit", "tail", log, "--output", output).stdout.splitlines()
    assert len(lines) == len(names)
    assert all(line.isprintable() for line in lines)


def test_ambiguous_values_are_quoted(log: Path) -> None:
    log.write_text(text(entry(index="a: OK", identity='"x" push')))
    (line,) = kekctl("audit", "tail", log).stdout.splitlines()
    assert '"\\"x\\" push" read disk:/keystore "a: OK": OK' in line


# Following


Next = Callable[[], dict[str, Any]]


@contextmanager
def following(log: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], Next]]:
    """Yields a following tail with JSON output, and a function that returns its next line."""
    # A shell makes the tests ignore SIGINT if it starts them in the background.
    reset = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{reset}; from kekd._cli import main; main()"
    arguments = ("audit", "tail", str(log), "--follow", "--output", "json", *flags)
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        lines: SimpleQueue[str] = SimpleQueue()
        reading = threading.Thread(target=lambda: [*map(lines.put, process.stdout or ())])
        reading.start()
        try:
            yield process, lambda: json.loads(lines.get(timeout=PATIENCE))
        finally:
            process.kill()
            reading.join()


def append(file: Path, *entries: object) -> None:
    with file.open("a") as opened:
        opened.write(text(*entries))


def test_new_lines_are_followed_until_ctrl_c(log: Path) -> None:
    log.write_text(text(*map(entry, range(5))))
    with following(log, "-n", "1") as (process, next_line):
        assert next_line() == entry(4)
        append(log, entry(5))
        assert next_line() == entry(5)
        half = json.dumps(entry(6))
        append(log, half[:50])
        append(log, half[50:] + "\n", entry(7))
        assert [next_line(), next_line()] == [entry(6), entry(7)]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) == 130
        assert process.stderr
        assert process.stderr.read() == ""


def test_new_file_is_followed_after_the_old_one_is_moved(log: Path) -> None:
    log.write_text(text(entry(0)))
    old = log.with_suffix(".1")
    with following(log) as (_, next_line):
        assert next_line() == entry(0)
        for number in range(1, 9, 3):
            log.rename(old)
            append(old, entry(number))  # the daemon hasn't reopened its file
            assert next_line() == entry(number)
            append(log, entry(number + 1))
            assert next_line() == entry(number + 1)
            append(old, entry(number + 2))  # a worker that hasn't reopened its file
            assert next_line() == entry(number + 2)


def test_truncated_file_is_read_from_its_beginning(log: Path) -> None:
    log.write_text(text(*map(entry, range(5))))
    with following(log, "-n", "1") as (_, next_line):
        assert next_line() == entry(4)
        log.write_text(text(entry(5)))
        assert next_line() == entry(5)


def test_readable_line_is_shown_when_a_write_has_ended(log: Path) -> None:
    log.touch()
    command = [str(BIN / "kekctl"), "audit", "tail", str(log), "--follow"]
    with subprocess.Popen(
        command, env=clean_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        append(log, *write(3), entry(4))
        try:
            assert process.stdout
            shown = [process.stdout.readline() for _ in range(2)]
        finally:
            process.kill()
    assert seconds("".join(shown)) == [3, 4]
