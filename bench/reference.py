"""Runs cyborgdb_core in another process, because it writes a log and blocks for seconds.

python -m bench.reference reads JSON arrays of folder, verb and number, one per line, and prints the
seconds that each call took.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.keystore import blob_of, name_of
from bench.process import ROOT, python

_FIELDS = ("kms_name", "provider", "key_id", "region", "wrapped_kek", "version", "created_at")


class Reference:
    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests = requests
        self._answers = answers

    def seconds(self, folder: Path, verb: str, number: int) -> float:
        """Returns the seconds of one `get_index_kms` or `push_index_kms`."""
        print(json.dumps([str(folder), verb, number]), file=self._requests, flush=True)
        return float(self._answers.readline())


@contextmanager
def running() -> Iterator[Reference]:
    process = subprocess.Popen(
        python("bench.reference"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin and process.stdout  # noqa: PT018  (for mypy: both are pipes)
    try:
        with process.stdin as requests, process.stdout as answers:
            yield Reference(requests, answers)
    finally:
        process.kill()
        process.wait()


def answer() -> None:
    cyborgdb: Any = importlib.import_module("cyborgdb_core")  # untyped
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # cyborgdb_core logs to standard output
    for line in sys.stdin:
        folder, verb, number = json.loads(line)
        seconds = _get if verb == "get" else _push
        print(seconds(cyborgdb, cyborgdb.StorageConfig.disk(folder), number), file=answers)


def _get(cyborgdb: Any, config: Any, number: int) -> float:
    name = name_of(number)
    start = time.perf_counter()
    found = cyborgdb.get_index_kms(config, name)
    seconds = time.perf_counter() - start
    assert found.wrapped_kek == blob_of(number).wrapped_kek
    return seconds


def _push(cyborgdb: Any, config: Any, number: int) -> float:
    name, ours = name_of(number), blob_of(number)
    blob = cyborgdb.KMSBlob(**{field: getattr(ours, field) for field in _FIELDS})
    start = time.perf_counter()
    cyborgdb.push_index_kms(config, name, blob)
    return time.perf_counter() - start


if __name__ == "__main__":
    answer()
