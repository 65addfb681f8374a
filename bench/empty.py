"""The baseline: a server with kekd's gRPC stack and options, and a handler that does nothing.

python -m bench.empty ADDRESS ENGINE
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from bench import load
from bench.process import Server, free_port, python, running
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.listeners.descriptor_limit import MAX_CONNECTIONS
from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.listener import Listener, parse
from kekd_server.rpc.engines import ConnectionLimits, make_server

Behavior = Callable[[pb.GetEnvelopeRequest, Any], Awaitable[pb.GetEnvelopeResponse]]


@contextmanager
def on_loopback(folder: Path, engine: EngineName = "grpcio") -> Iterator[Server]:
    address = f"127.0.0.1:{free_port()}"
    command = python("bench.empty", address, engine)
    with running(command, address, folder / f"empty.{engine}.log") as server:
        load.get(address, 0)
        yield server


async def serve(listener: Listener, behavior: Behavior) -> None:
    """Serves GetEnvelope until SIGTERM."""
    server = make_server(listener, ConnectionLimits(), max_connections=MAX_CONNECTIONS)
    _, service, method = load.METHOD.split("/")
    handlers = {method: _handler(behavior)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)
    server.add_insecure_port(str(listener))
    await server.start()
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    await terminated.wait()
    await server.stop(None)


def _handler(behavior: Behavior) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        behavior,
        request_deserializer=pb.GetEnvelopeRequest.FromString,
        response_serializer=pb.GetEnvelopeResponse.SerializeToString,
    )


async def _empty(_request: pb.GetEnvelopeRequest, _context: Any) -> pb.GetEnvelopeResponse:
    return pb.GetEnvelopeResponse()


def _main(address: str, engine: EngineName) -> None:
    serving = serve(parse(address, engine), _empty)
    if engine == "native":
        import uvloop  # noqa: PLC0415  (as in kekd; only this engine should use its memory)

        uvloop.run(serving)
    else:
        asyncio.run(serving)


if __name__ == "__main__":
    _main(*sys.argv[1:])  # type: ignore[arg-type]
