"""A null get: the empty handler plus stat(2) on the record's file and a prepared response.

This is the least work that a get from disk can do.

python -m bench.null_get_server ADDRESS RECORD
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import empty, load
from bench.process import Server, free_port, python, running
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_schema import decode
from kekd_server.listeners.listener import parse
from kekd_server.rpc.convert import make_get_response
from kekd_server.storage.disk.record_cache import read_file
from kekd_server.storage.stored_envelope import StoredEnvelope


@contextmanager
def on_loopback(folder: Path, record: Path) -> Iterator[Server]:
    address = f"127.0.0.1:{free_port()}"
    command = python("bench.null_get_server", address, str(record))
    with running(command, address, folder / "null_get.log") as server:
        load.get(address, 0)
        yield server


def _make_null_get(record: str) -> empty.Behavior:
    stored = read_file(record)
    answer = make_get_response(StoredEnvelope(decode(stored.record), stored.etag, "disk", stored))

    async def null_get(_request: pb.GetEnvelopeRequest, _context: Any) -> Any:
        os.stat(record)  # noqa: PTH116  (faster than Path, as in the daemon)
        return answer

    return null_get


def _main(address: str, record: str) -> None:
    asyncio.run(empty.serve(parse(address, "grpcio"), _make_null_get(record)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
