"""The floor: kekd's gRPC stack and options, with a handler that does nothing.

python -m bench.empty ADDRESS
"""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench import load
from bench.process import Server, free_port, python, running
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.rpc.engines import MAX_REQUEST_BYTES


@contextmanager
def on_loopback(folder: Path) -> Iterator[Server]:
    address = f"127.0.0.1:{free_port()}"
    with running(python("bench.empty", address), address, folder / "empty.log") as server:
        load.get(address, 0)
        yield server


async def serve(address: str) -> None:
    """Serves until SIGTERM. The options are those of kekd_server.rpc.engines."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers((_handlers(),))
    server.add_insecure_port(address)
    await server.start()
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    await terminated.wait()
    await server.stop(None)


def _handlers() -> grpc.GenericRpcHandler:
    """As the generated code would register it."""
    _, service, method = load.METHOD.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        _empty,
        request_deserializer=pb.GetEnvelopeRequest.FromString,
        response_serializer=pb.GetEnvelopeResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(service, {method: handler})


async def _empty(_request: pb.GetEnvelopeRequest, _context: Any) -> pb.GetEnvelopeResponse:
    return pb.GetEnvelopeResponse()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
