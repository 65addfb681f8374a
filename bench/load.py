"""Sends gets of many names in turn, from Python, because h2load repeats a single request.

python -m bench.load ADDRESS NAMES REQUESTS

It prints the seconds that they took.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import cycle, islice
from typing import Any

import grpc
import grpc.aio

from bench.keystore import name_of
from bench.process import ROOT, Server, python
from kekd_proto.v1 import envelope_pb2 as pb

METHOD = "/kekd.v1.EnvelopeService/GetEnvelope"
_IN_FLIGHT = 64


def request_of(number: int) -> pb.GetEnvelopeRequest:
    return pb.GetEnvelopeRequest(index_name=name_of(number))


def get(address: str, number: int) -> pb.GetEnvelopeResponse:
    answer = ask(address, METHOD, request_of(number).SerializeToString())
    return pb.GetEnvelopeResponse.FromString(answer)


def ask(address: str, method: str, request: bytes) -> bytes:
    """Makes one call to any server, and waits until it serves."""
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(method)  # bytes to bytes
        answer: bytes = call(request, timeout=10, wait_for_ready=True)
        return answer


def cpu_per_request(server: Server, names: int, requests: int) -> float:
    """Returns the server's CPU seconds (user and system) per request."""
    before = server.cpu_seconds()
    command = python("bench.load", server.address, str(names), str(requests))
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return (server.cpu_seconds() - before) / requests


async def gets_per_second(server: Server, requests: int) -> float:
    """Measures gets of one name, while the caller's event loop goes on."""
    process = await asyncio.create_subprocess_exec(
        *python("bench.load", server.address, "1", str(requests)),
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    seconds, _ = await process.communicate()
    assert process.returncode == 0
    return requests / float(seconds)


async def send(
    address: str, messages: Iterable[bytes], *, method: str = METHOD, in_flight: int = _IN_FLIGHT
) -> None:
    """Sends requests that are serialized in advance, to keep the client's own work small. Takes the
    next one when a response arrives.
    """
    remaining = iter(messages)
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(method)  # bytes to bytes

        async def caller() -> None:
            for message in remaining:
                await call(message)

        await asyncio.gather(*(caller() for _ in range(in_flight)))


def _main(address: str, names: int, requests: int) -> None:
    messages = [request_of(number).SerializeToString() for number in range(names)]
    began = time.perf_counter()
    asyncio.run(send(address, islice(cycle(messages), requests)))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
