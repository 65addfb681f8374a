"""A daemon whose responses a test scripts."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from tests.patience import PATIENCE, eventually

HEARTBEAT = 100.0
"""Long, so that a watch isn't lost on a busy machine."""
PAGES = 3

Answer = pb.WatchEnvelopesResponse


class Stream:
    """The daemon's side of a watch."""

    def __init__(self, request: pb.WatchEnvelopesRequest) -> None:
        self.request = request
        self.over = threading.Event()
        self._queue: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()

    def begin(self, heartbeat: float = HEARTBEAT) -> None:
        self._queue.put(
            Answer(started=pb.WatchStarted(store="memory", heartbeat_seconds=heartbeat))
        )

    def change(self, name: str, kind: pb.Change.Kind = pb.Change.KIND_PUSHED) -> None:
        self._queue.put(Answer(change=pb.Change(index_name=name, kind=kind, etag="new")))

    def resync(self) -> None:
        self._queue.put(Answer(resync=pb.Resync()))

    def heartbeat(self) -> None:
        self._queue.put(Answer(heartbeat=pb.Heartbeat()))

    def send_unknown_event(self) -> None:
        self._queue.put(Answer())

    def end(self) -> None:
        self._queue.put(None)

    def answers(self) -> Iterator[Answer]:
        while (answer := self._queue.get()) is not None:
            yield answer


class Scripted:
    """Keeps envelopes by name alone, and records the calls. Its watches send what a test sends."""

    def __init__(self) -> None:
        self.version = 1
        """The version of every envelope that is read."""
        self.gets: list[str] = []
        self.failure: grpc.StatusCode | None = None
        """The status of all calls except watches."""
        self.details = "scripted failure"
        self.writes: list[Any] = []
        """The requests of all writes."""
        self.pages: list[str] = []
        """The page tokens of all listings. Each page has one name."""
        self.pages_ended: list[str] = []
        self.versions: list[pb.EnvelopeVersion] = []
        """The versions of every index."""
        self.watches: list[Stream] = []
        self.open = threading.Event()
        """Whether reads are answered. A read returns the version of when it arrived."""
        self.open.set()
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((self._handler(),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def watch(self, number: int = 0) -> Stream:
        """Waits for a watch, counted from 0."""
        eventually(lambda: len(self.watches) > number)
        return self.watches[number]

    def close(self) -> None:
        self.open.set()
        for stream in self.watches:
            stream.end()
        self._server.stop(0).wait()

    def _get(self, request: pb.GetEnvelopeRequest, context: Any) -> pb.GetEnvelopeResponse:
        blob = pb.KMSBlob(provider="none", version=self.version)
        self.gets.append(request.index_name)
        assert self.open.wait(PATIENCE)
        self._fail(context)
        return pb.GetEnvelopeResponse(blob=blob, etag=f"etag {blob.version}", store="memory")

    def _get_many(
        self, request: pb.BatchGetEnvelopesRequest, _: Any
    ) -> pb.BatchGetEnvelopesResponse:
        return pb.BatchGetEnvelopesResponse(
            envelopes=[self._listed(name) for name in request.index_names], store="memory"
        )

    def _listed(self, name: str) -> pb.ListedEnvelope:
        blob = pb.KMSBlob(provider="none", version=self.version)
        return pb.ListedEnvelope(index_name=name, blob=blob, etag=f"etag {self.version}")

    def _list(self, request: pb.ListEnvelopesRequest, context: Any) -> pb.ListEnvelopesResponse:
        self.pages.append(request.page_token)
        context.add_callback(partial(self.pages_ended.append, request.page_token))
        assert self.open.wait(PATIENCE)
        self._fail(context)
        number = int(request.page_token or 1)
        return pb.ListEnvelopesResponse(
            envelopes=[self._listed(f"name {number}")],
            store="memory",
            next_page_token=str(number + 1) if number < PAGES else "",
        )

    def _list_versions(
        self, _request: pb.ListEnvelopeVersionsRequest, _context: Any
    ) -> pb.ListEnvelopeVersionsResponse:
        return pb.ListEnvelopeVersionsResponse(versions=self.versions, store="memory")

    def _write(self, request: Any, context: Any) -> pb.PushEnvelopeResponse:
        self.writes.append(request)
        self.version += 1
        self._fail(context)
        return pb.PushEnvelopeResponse(etag=f"etag {self.version}")

    def _write_many(
        self, request: pb.BatchPushEnvelopesRequest, context: Any
    ) -> pb.BatchPushEnvelopesResponse:
        etag = self._write(request, context).etag
        answers = [
            pb.PushedEnvelope(index_name=push.index_name, etag=etag) for push in request.pushes
        ]
        return pb.BatchPushEnvelopesResponse(envelopes=answers)

    def _delete(self, request: pb.DeleteEnvelopeRequest, context: Any) -> pb.DeleteEnvelopeResponse:
        self.writes.append(request)
        self.version += 1
        self._fail(context)
        return pb.DeleteEnvelopeResponse(existed=True)

    def _watch(self, request: pb.WatchEnvelopesRequest, context: Any) -> Iterator[Answer]:
        stream = Stream(request)
        context.add_callback(stream.over.set)
        context.add_callback(stream.end)
        self.watches.append(stream)
        return stream.answers()

    def _fail(self, context: Any) -> None:
        if self.failure:
            context.abort(self.failure, self.details)

    def _handler(self) -> grpc.GenericRpcHandler:
        handlers = {
            "GetEnvelope": _unary(self._get, pb.GetEnvelopeRequest),
            "BatchGetEnvelopes": _unary(self._get_many, pb.BatchGetEnvelopesRequest),
            "CreateEnvelope": _unary(self._write, pb.CreateEnvelopeRequest),
            "PushEnvelope": _unary(self._write, pb.PushEnvelopeRequest),
            "BatchPushEnvelopes": _unary(self._write_many, pb.BatchPushEnvelopesRequest),
            "DeleteEnvelope": _unary(self._delete, pb.DeleteEnvelopeRequest),
            "RestoreEnvelope": _unary(self._write, pb.RestoreEnvelopeRequest),
            "UndeleteEnvelope": _unary(self._write, pb.UndeleteEnvelopeRequest),
            "ListEnvelopeVersions": _unary(self._list_versions, pb.ListEnvelopeVersionsRequest),
            "ListEnvelopes": _unary(self._list, pb.ListEnvelopesRequest),
            "WatchEnvelopes": grpc.unary_stream_rpc_method_handler(
                self._watch,
                request_deserializer=pb.WatchEnvelopesRequest.FromString,
                response_serializer=Answer.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler("kekd.v1.EnvelopeService", handlers)


def _unary(method: Callable[[Any, Any], Any], request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )


def version_of(client: kekd.Client, name: str = "i") -> int:
    return client.get_index_kms(None, name).version
