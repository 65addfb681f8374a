"""Ready answers: a daemon with them and one without answer, audit and count the same.

READY_RUNS=1000 pytest makes 50,000 steps.
"""

import asyncio
import gc
import os
import re
import shutil
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import grpc.aio
import pytest
from google.rpc import status_pb2
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from kekd_common.address import grpc_target
from kekd_common.policy import Rule
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_schema import Envelope, encode
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit.audited_store import AuditedStore
from kekd_server.access.audit.auditor import Auditor
from kekd_server.access.authorizer import Authorizer
from kekd_server.access.call_limits import CallLimits
from kekd_server.access.grants.repeat_grant import RepeatGrant
from kekd_server.access.identity.principal import Principal
from kekd_server.access.repetition import Repetition
from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.listener import parse
from kekd_server.model.errors import UnauthenticatedError
from kekd_server.model.index_name import IndexName
from kekd_server.observability.metrics import Metrics
from kekd_server.rpc import envelope_reader, ready_answers
from kekd_server.rpc.answer_now import AnswerNowServer
from kekd_server.rpc.convert import parse_index_name
from kekd_server.rpc.engines import ConnectionLimits
from kekd_server.rpc.ready_answers import ReadyAnswers
from kekd_server.rpc.repeated_gets import RepeatedGets
from kekd_server.rpc.server import Server
from kekd_server.rpc.servicer import EnvelopeServicer
from kekd_server.rpc.unparsed_get import UnparsedGet
from kekd_server.service import EnvelopeService
from kekd_server.storage.disk import layout, record_cache, timestamps
from kekd_server.storage.factory import make_store
from kekd_server.storage.history.retention import DEFAULT_RETENTION
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation
from kekd_server.storage.registry import Stores
from tests.fixtures.access import MemoryAuditLog
from tests.patience import PATIENCE, eventually_async

RUNS: Final = int(os.environ.get("READY_RUNS", "20"))
STEPS: Final = 50
METHODS: Final = pb.DESCRIPTOR.services_by_name["EnvelopeService"].methods_by_name
NAMES: Final = ("a", "b/c", "é")
DELAY: Final = re.compile(rb"retry in [0-9.]+ s")
IDENTITIES: Final = ("dns:a", "dns:b", "listener:unix")
BURST: Final = 100
ALL: Final = Rule(name="all", identities=("*",), methods=("*",))
ALSO_ALL: Final = Rule(name="also all", identities=("*",), methods=("*",))
RULES: Final = (
    ALL,
    ALSO_ALL,
    Rule(name="a", identities=("dns:a",), methods=("read", "push"), indexes=("a",)),
    Rule(name="memory", identities=("*",), methods=("read",), stores=("memory",)),
)

INDEX, LOCATION, VERSION = b"\x12", b"\x0a", b"\x1a"
"""The tags of the fields of GetEnvelopeRequest."""
UNKNOWN: Final = b"\xa0\x06\x01"
"""Field 100 is 1."""


def field(tag: bytes, content: bytes) -> bytes:
    return tag + bytes([len(content)]) + content


MEMORY: Final = field(LOCATION, pb.StorageConfig(memory=pb.MemoryStorage()).SerializeToString())
NOWHERE: Final = field(
    LOCATION, pb.StorageConfig(disk=pb.DiskStorage(path="/nowhere")).SerializeToString()
)
requests: Final = st.one_of(
    st.sampled_from(NAMES).map(lambda name: field(INDEX, name.encode())),
    st.lists(
        st.sampled_from(
            [
                *(field(INDEX, name.encode()) for name in (*NAMES, "")),
                *(MEMORY, NOWHERE, field(LOCATION, b""), UNKNOWN),
                *(field(VERSION, version) for version in (b"", b"unknown")),
                *(field(INDEX, b"\xff"), b"\x12\x7f"),
            ]
        ),
        max_size=4,
    ).map(b"".join),
)


class Caller:
    """The context of a call, in place of grpcio's."""

    def __init__(self, principal: Principal, peer: str) -> None:
        self.principal = principal
        self._peer = peer
        self.error: tuple[object, ...] = ()

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> None:
        return None

    async def abort(self, code: object, text: str, *, trailing_metadata: Any) -> None:
        status = status_pb2.Status.FromString(trailing_metadata[0][1])
        self.error = (code, text, status.details[0].value)
        raise grpc.aio.AbortError


def authenticate(caller: Caller) -> Principal:
    caller.principal.require_unexpired()
    return caller.principal


def expire() -> None:
    raise UnauthenticatedError("expired")


class Side:
    """A daemon without a transport."""

    def __init__(
        self,
        root: Path,
        answers: ReadyAnswers | None,
        *,
        burst: int = BURST,
        answers_now: bool = False,
    ) -> None:
        """`answers_now`: answers repeated gets before it makes a task for them."""
        self.root = root
        self.answers_now = answers_now
        self.metrics, self.log = Metrics(), MemoryAuditLog()
        self.policy = AccessPolicy([ALL], self.metrics)
        locations: tuple[Location, ...] = (DiskLocation(str(root)), MemoryLocation())
        self.stores = [
            make_store(location, DEFAULT_RETENTION, s3_poll=300, metrics=self.metrics, tracing=None)
            for location in locations
        ]
        auditor = Auditor(self.log)
        service = EnvelopeService(Authorizer(Stores(self.stores), self.policy, auditor))
        unused: Any = None
        self.server = Server(
            *(service, unused, {}),
            health=unused,
            limits=CallLimits(calls=8, rate=1e-6, burst=burst, metrics=self.metrics),
            connection_limits=ConnectionLimits(),
            metrics=self.metrics,
            tracing=None,
            ready_answers=answers,
            end_watches=lambda: None,
        )
        self._servicer = EnvelopeServicer(service, answers)
        self.entries: list[dict[str, Any]] = []

    async def open(self) -> None:
        for store in self.stores:
            await store.open(create=True)

    async def call(self, method: str, sent: bytes, caller: Caller) -> bytes | list[bytes]:
        if self.answers_now and method == "GetEnvelope":
            answer_now = self._answer_now(sent, caller)
            if answer_now is not None:
                return self._portable(answer_now)
        if (answer := await self.respond(method, sent, caller)) is not None:
            return self._portable(answer)
        return [self._portable(repr(part).encode()) for part in caller.error]

    async def respond(self, method: str, sent: bytes, caller: Caller) -> bytes | None:
        """Returns the response of the ordinary path, or None if the call fails."""
        authenticator: Any = SimpleNamespace(authenticate=authenticate)
        handler: Any = self.server._handler(
            METHODS[method], getattr(self._servicer, method), authenticator
        )
        with suppress(grpc.aio.AbortError):
            answer = handler.unary_unary(handler.request_deserializer(sent), caller)
            return bytes(handler.response_serializer(await asyncio.create_task(answer)))
        return None

    def _answer_now(self, sent: bytes, caller: Caller) -> bytes | None:
        with suppress(UnauthenticatedError):
            authenticator: Any = SimpleNamespace(role=authenticate(caller))
            transport = AnswerNowServer()
            self.server._answer_repeated_gets(transport, authenticator)
            (answers,) = transport.answers_now.values()
            return answers.answer(sent, caller.peer())
        return None

    def path(self, name: str) -> Path:
        return self.root / layout.RECORDS / IndexName(name).key

    def audited(self) -> list[object]:
        varying = ("time", "request_id", "duration_ms")
        return [
            self._portable(repr({**entry, **dict.fromkeys(varying)}).encode())
            for entry in self.log.entries
        ]

    def counted(self) -> dict[object, float]:
        self.metrics.sample()
        return {
            self._portable(
                repr((sample.name, sorted(sample.labels.items()))).encode()
            ): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if not sample.name.endswith(("_bucket", "_sum"))
        }

    def _portable(self, text: bytes) -> bytes:
        return DELAY.sub(b"", text.replace(str(self.root).encode(), b"/keystore"))

    def close(self) -> None:
        for store in self.stores:
            store.close()


def wait_for_the_next_tick(probe: Path) -> None:
    """Waits until a change of a file gets another time than all earlier ones."""
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.touch()


def record(number: int) -> bytes:
    return encode(Envelope(provider="none", wrapped_kek=b"%06d" % number))


class Machine(RuleBasedStateMachine):
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        # Paths of one length, as an answer has the lengths of its fields.
        self.sides = (
            Side(self.folder / "plain", None),
            Side(self.folder / "ready", ReadyAnswers()),
            Side(self.folder / "a-now", ReadyAnswers(), answers_now=True),
        )
        self.number = 0
        for side in self.sides:
            self.runner.run(side.open())
            for name in NAMES:
                side.path(name).write_bytes(record(0))

    @rule(sent=requests, identity=st.sampled_from(IDENTITIES), times=st.integers(1, 3))
    def get(self, sent: bytes, identity: str, times: int) -> None:
        for number in range(times):
            self._call("GetEnvelope", sent, Principal(identity, is_local=False), f"unix:{number}")

    @rule(name=st.sampled_from(NAMES), identity=st.sampled_from(IDENTITIES), is_local=st.booleans())
    def get_twice(self, name: str, identity: str, is_local: bool) -> None:
        principal = Principal(identity, is_local=is_local)
        for _ in range(2):
            self._call("GetEnvelope", field(INDEX, name.encode()), principal)

    @rule(
        names=st.lists(st.sampled_from((*NAMES, "", "none")), min_size=1, max_size=6),
        identity=st.sampled_from(IDENTITIES),
        is_memory=st.booleans(),
    )
    def get_a_batch(self, names: Sequence[str], identity: str, is_memory: bool) -> None:
        request = pb.BatchGetEnvelopesRequest(index_names=names)
        if is_memory:
            request.config_location.memory.SetInParent()
        caller = Principal(identity, is_local=False)
        self._call("BatchGetEnvelopes", request.SerializeToString(), caller)

    @rule(prefix=st.sampled_from(("", "b")), identity=st.sampled_from(IDENTITIES))
    def list_envelopes(self, prefix: str, identity: str) -> None:
        # One page, because the token of a next one has a random number.
        request = pb.ListEnvelopesRequest(prefix=prefix, view=pb.ENVELOPE_VIEW_FULL)
        self._call(
            "ListEnvelopes", request.SerializeToString(), Principal(identity, is_local=False)
        )

    @rule(name=st.sampled_from(NAMES))
    def get_with_an_expired_certificate(self, name: str) -> None:
        expired = Principal("dns:a", is_local=False, require_unexpired=expire)
        self._call("GetEnvelope", field(INDEX, name.encode()), expired)

    @rule(name=st.sampled_from(NAMES))
    def get_during_the_shutdown(self, name: str) -> None:
        for side in self.sides:
            side.server._calls.is_stopping = True
        self._call("GetEnvelope", field(INDEX, name.encode()))
        for side in self.sides:
            side.server._calls.is_stopping = False

    @rule(name=st.sampled_from(NAMES), is_memory=st.booleans())
    def push(self, name: str, is_memory: bool) -> None:
        self.number += 1
        blob = pb.KMSBlob(provider="none", wrapped_kek=b"%06d" % self.number)
        request = pb.PushEnvelopeRequest(index_name=name, blob=blob)
        if is_memory:
            request.config_location.memory.SetInParent()
        with self._gets_around(name):
            self._call("PushEnvelope", request.SerializeToString())

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        request = pb.DeleteEnvelopeRequest(index_name=name)
        with self._gets_around(name):
            self._call("DeleteEnvelope", request.SerializeToString())

    @rule(rules=st.lists(st.sampled_from(RULES), max_size=2))
    def replace_policy(self, rules: Sequence[Rule]) -> None:
        self._replace_policy(rules)

    @rule(rules=st.sampled_from([None, [ALL], [ALSO_ALL]]))
    def replace_policy_by_a_generous_one(self, rules: Sequence[Rule] | None) -> None:
        self._replace_policy(rules)

    def _replace_policy(self, rules: Sequence[Rule] | None) -> None:
        with self._gets_around("a"):
            for side in self.sides:
                side.policy.replace(rules)

    @rule(
        name=st.sampled_from(NAMES),
        way=st.sampled_from(["overwrite", "replace", "corrupt", "touch", "remove"]),
    )
    def change_the_file(self, name: str, way: str) -> None:
        self.number += 1
        with self._gets_around(name):
            for side in self.sides:
                self._change_the_file(side.path(name), way)

    def _change_the_file(self, path: Path, way: str) -> None:
        new = path.with_name("new")
        if way == "overwrite":
            path.write_bytes(record(self.number))
        elif way == "replace":
            new.write_bytes(record(self.number))
            os.utime(new, ns=(0, 0))
            new.rename(path)
        elif way == "corrupt":
            path.write_bytes(b"%06d" % self.number)
        elif way == "touch":
            path.touch()
        else:
            path.unlink(missing_ok=True)

    @rule(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def rename_the_file(self, old: str, new: str) -> None:
        with self._gets_around(new), suppress(FileNotFoundError):
            for side in self.sides:
                side.path(old).rename(side.path(new))

    @contextmanager
    def _gets_around(self, name: str) -> Iterator[None]:
        """Makes an answer ready before a change, and asks for it afterwards."""
        for _ in range(2):
            self._call("GetEnvelope", field(INDEX, name.encode()))
            self._call("BatchGetEnvelopes", field(INDEX, name.encode()))
        wait_for_the_next_tick(self.folder / "probe")
        yield
        self._call("BatchGetEnvelopes", field(INDEX, name.encode()))
        self._call("GetEnvelope", field(INDEX, name.encode()))

    def _call(
        self, method: str, sent: bytes, principal: Principal | None = None, peer: str = "unix:"
    ) -> None:
        caller = principal or Principal("listener:unix", is_local=True)
        plain, *others = (
            self.runner.run(side.call(method, sent, Caller(caller, peer))) for side in self.sides
        )
        assert others == [plain, plain]

    def teardown(self) -> None:
        plain, *others = self.sides
        for side in others:
            assert side.audited() == plain.audited()
            assert side.counted() == plain.counted()
        for side in self.sides:
            side.close()
        self.runner.close()


@pytest.fixture
def no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches new files as well."""
    monkeypatch.setattr(timestamps, "_RACY_NS", -(10**18))


@pytest.fixture
def everything_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may evict a file of one side alone, whose read then counts in another way."""

    def open_file(path: bytes) -> int | None:
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return None

    def read_file(file: int, max_bytes: int) -> tuple[bytes, os.stat_result]:
        return os.pread(file, max_bytes, 0), os.fstat(file)

    monkeypatch.setattr(record_cache, "open_if_cached", open_file)
    monkeypatch.setattr(record_cache, "read_if_cached", read_file)


@pytest.mark.usefixtures("no_race", "everything_in_memory")
def test_ready_answers_change_nothing_but_the_time(tmp_path: Path) -> None:
    Machine.folder = tmp_path / "machine"
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A list that grows with each request that is parsed."""
    parse, parsed = UnparsedGet.parse, []

    def note(request: UnparsedGet) -> Any:
        parsed.append(request.sent)
        return parse(request)

    monkeypatch.setattr(UnparsedGet, "parse", note)
    return parsed


@pytest.fixture
def side(tmp_path: Path, no_race: None) -> Iterator[Side]:
    side = Side(tmp_path, ReadyAnswers(), burst=10_000)
    yield side
    side.close()


async def get(side: Side, name: str, identity: str = "dns:a", padding: bytes = b"") -> bytes:
    caller = Caller(Principal(identity, is_local=False), "unix:")
    answer = await side.call("GetEnvelope", field(INDEX, name.encode()) + padding, caller)
    assert isinstance(answer, bytes)
    return answer


async def test_repeated_get_is_not_parsed(side: Side, parsed: list[bytes]) -> None:
    await side.open()
    for name in ("a", "b"):
        side.path(name).write_bytes(record(1))
    for _ in range(3):
        for name in ("a", "b"):
            assert b"000001" in await get(side, name)
    assert len(parsed) == 2
    wait_for_the_next_tick(side.root / "probe")
    side.path("a").write_bytes(record(2))
    assert b"000002" in await get(side, "a")


async def test_repeated_get_is_answered_before_its_task(tmp_path: Path, no_race: None) -> None:
    side = Side(tmp_path, ReadyAnswers(), burst=1000, answers_now=True)
    await side.open()
    side.path("a").write_bytes(record(1))
    sent, caller = field(INDEX, b"a"), Caller(Principal("dns:a", is_local=False), "unix:")
    assert side._answer_now(sent, caller) is None
    answer = await get(side, "a")
    assert side._portable(side._answer_now(sent, caller) or b"") == answer
    side.close()


async def test_failure_of_a_repetition_is_left_to_the_ordinary_path(
    tmp_path: Path, no_race: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = Side(tmp_path, ReadyAnswers(), burst=1000, answers_now=True)
    await side.open()
    side.path("a").write_bytes(record(1))
    answer = await get(side, "a")
    monkeypatch.setattr(RepeatGrant, "repeat", lambda *_: 1 / 0)
    sent, caller = field(INDEX, b"a"), Caller(Principal("dns:a", is_local=False), "unix:")
    assert side._answer_now(sent, caller) is None
    monkeypatch.undo()
    assert await get(side, "a") == answer
    side.close()


@asynccontextmanager
async def served(side: Side, engine: EngineName) -> AsyncIterator[Callable[[], Any]]:
    """Serves a side on a socket, and yields what makes a get of `a`."""
    side.server._max_connections = 10
    listener = parse(f"unix:{side.root}/socket", engine)
    server = side.server._bind(listener)
    await server.start()
    async with grpc.aio.insecure_channel(grpc_target(str(listener))) as channel:
        method: Any = channel.unary_unary("/kekd.v1.EnvelopeService/GetEnvelope")
        yield lambda: method(field(INDEX, b"a"), timeout=PATIENCE)
    await server.stop(None)


@pytest.mark.external
@pytest.mark.parametrize(
    ("engine", "step"),
    [
        ("grpcio", (RepeatedGets, "begin")),
        *(
            (engine, step)
            for engine in ("grpcio", "native")
            for step in ((AccessPolicy, "count"), (CallLimits, "charge"))
        ),
    ],
)
async def test_failure_after_the_audit_line_is_internal_and_recorded_once(
    tmp_path: Path,
    no_race: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    engine: EngineName,
    step: tuple[type, str],
) -> None:
    side = Side(tmp_path, ReadyAnswers(), burst=1000)
    await side.open()
    side.path("a").write_bytes(record(1))
    async with served(side, engine) as get_a:
        await get_a()
        recorded = len(side.log.entries)
        fail_once(monkeypatch, *step)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await get_a()
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert len(side.log.entries) == recorded + 1
        assert [entry.getMessage() for entry in caplog.records] == ["internal error"]
        assert b"000001" in await get_a()
        await eventually_async(lambda: side.server.running == 0)
        assert len(side.log.entries) == recorded + 2
    side.close()


def fail_once(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> None:
    intact = getattr(kind, name)

    def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(kind, name, intact)
        raise RuntimeError("injected")

    monkeypatch.setattr(kind, name, fail)


async def test_failure_in_the_servicer_before_the_audit_line_is_left_to_the_ordinary_path(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    await side.open()
    side.path("a").write_bytes(record(1))
    answer = await get(side, "a")
    fail_once(monkeypatch, AuditedStore, "repeat_read")
    assert await get(side, "a") == answer
    assert len(side.log.entries) == 2


async def test_failure_in_the_servicer_after_the_audit_line_is_recorded_once(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    await side.open()
    side.path("a").write_bytes(record(1))
    await get(side, "a")
    fail_once(monkeypatch, AccessPolicy, "count")
    sent, caller = field(INDEX, b"a"), Caller(Principal("dns:a", is_local=False), "unix:")
    await side.call("GetEnvelope", sent, caller)
    assert caller.error[0] is grpc.StatusCode.INTERNAL
    assert len(side.log.entries) == 2


async def test_answer_counts_as_in_flight_until_its_end(side: Side) -> None:
    transport, role = AnswerNowServer(), Principal("dns:a", is_local=False)
    side.server._answer_repeated_gets(transport, cast("Any", SimpleNamespace(role=role)))
    (answers,) = transport.answers_now.values()
    ends = [answers.begin() for _ in range(8)]
    assert side.server.running == 8
    assert not side.server._limits.admits("dns:a", 9)
    for end in ends:
        end()
    assert side.server.running == 0
    assert side.server._limits.admits("dns:a", 1)


async def test_unchanged_entry_of_a_page_is_not_made_again(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def note(sent: str, result: Any) -> bytes:
        made.append(sent)
        return serialize(sent, result)

    serialize = envelope_reader._serialize
    monkeypatch.setattr(envelope_reader, "_serialize", note)
    await side.open()
    for name in ("a", "b"):
        side.path(name).write_bytes(record(1))
    request = pb.ListEnvelopesRequest(view=pb.ENVELOPE_VIEW_FULL).SerializeToString()
    batch = pb.BatchGetEnvelopesRequest(index_names=["b", "a"]).SerializeToString()
    caller = Caller(Principal("dns:a", is_local=False), "unix:")
    for method, sent in (
        *[("ListEnvelopes", request), ("BatchGetEnvelopes", batch)],
        *[("ListEnvelopes", request), ("BatchGetEnvelopes", batch)],
    ):
        assert str(await side.call(method, sent, caller)).count("000001") == 2
    assert made == ["a", "b"]
    wait_for_the_next_tick(side.root / "probe")
    side.path("a").write_bytes(record(2))
    assert b"000002" in bytes(await side.call("BatchGetEnvelopes", batch, caller))  # type: ignore[arg-type]
    assert made == ["a", "b", "a"]


async def list_pages(
    side: Side, page_size: int, after_first: Callable[[Side], None] = lambda _: None
) -> list[list[pb.ListedEnvelope]]:
    """Returns the entries of each page. Calls `after_first` between the first page and the next."""
    caller = Caller(Principal("dns:a", is_local=False), "unix:")
    request = pb.ListEnvelopesRequest(view=pb.ENVELOPE_VIEW_FULL, page_size=page_size)
    pages: list[list[pb.ListedEnvelope]] = []
    while not pages or request.page_token:
        sent = await side.respond("ListEnvelopes", request.SerializeToString(), caller)
        page = pb.ListEnvelopesResponse.FromString(sent or b"")
        if not pages:
            after_first(side)
        pages.append(list(page.envelopes))
        request.page_token = page.next_page_token
    return pages


def change_later_names(side: Side) -> None:
    wait_for_the_next_tick(side.root / "probe")
    side.path("5").write_bytes(record(50))
    side.path("6").write_bytes(b"corrupt")
    side.path("7").unlink()


def deny_later_names(side: Side) -> None:
    side.policy.replace(
        [Rule(name="some", identities=("*",), methods=("*",), indexes=("[01238]",))]
    )


@pytest.mark.parametrize(("page_size", "room"), [(1, 2**20), (4, 2**20), (1000, 150)])
@pytest.mark.parametrize("change", [change_later_names, deny_later_names])
async def test_pages_of_ready_entries_are_those_of_a_daemon_without(
    tmp_path: Path,
    no_race: None,
    monkeypatch: pytest.MonkeyPatch,
    page_size: int,
    room: int,
    change: Callable[[Side], None],
) -> None:
    monkeypatch.setattr(envelope_reader, "MAX_RESPONSE_BYTES", room)
    sides = [
        Side(tmp_path / "plain", None, burst=1000),
        Side(tmp_path / "ready", ReadyAnswers(), burst=1000),
    ]
    results = []
    for side in sides:
        await side.open()
        for number in range(10):
            side.path(f"{number}").write_bytes(record(number))
        unchanged = [await list_pages(side, page_size) for _ in range(2)]
        changed = [await list_pages(side, page_size, change), await list_pages(side, page_size)]
        results.append((unchanged, changed, side.audited(), side.counted()))
        side.close()
    plain, ready = results
    assert ready == plain
    unchanged, changed, *_ = ready
    assert len(unchanged[0]) > 2
    assert unchanged[0] == unchanged[1] != changed[0]
    names = [entry.index_name for page in unchanged[0] for entry in page]
    assert sorted(names) == [f"{number}" for number in range(10)]


async def test_ready_entry_of_a_batch_is_denied_by_a_new_policy(side: Side) -> None:
    await side.open()
    side.path("a").write_bytes(record(1))
    side.path("b").write_bytes(record(2))
    batch = pb.BatchGetEnvelopesRequest(index_names=["b", "a"]).SerializeToString()
    caller = Caller(Principal("dns:a", is_local=False), "unix:")
    for _ in range(2):
        answer = str(await side.call("BatchGetEnvelopes", batch, caller))
        assert "000001" in answer
        assert "000002" in answer
    side.policy.replace([RULES[2]])
    response = await side.respond("BatchGetEnvelopes", batch, caller)
    denied, allowed = pb.BatchGetEnvelopesResponse.FromString(response or b"").envelopes
    assert (denied.index_name, denied.HasField("blob")) == ("b", False)
    assert (allowed.index_name, allowed.blob.wrapped_kek) == ("a", b"000001")


async def test_entries_are_bounded(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_answers, "_MAX_BYTES", 2000)
    await side.open()
    answers = ReadyAnswers()
    side._servicer._ready_answers = answers
    names = [f"{number}" for number in range(10)]
    for name in names:
        side.path(name).write_bytes(record(1))
    batch = pb.BatchGetEnvelopesRequest(index_names=names).SerializeToString()
    caller = Caller(Principal("dns:a", is_local=False), "unix:")
    for _ in range(2):
        assert str(await side.call("BatchGetEnvelopes", batch, caller)).count("000001") == 10
    assert 0 < answers.entries._ready.size <= 2000


async def test_grant_repeats_the_read_of_its_principal_alone(side: Side) -> None:
    await side.open()
    side.path("a").write_bytes(record(1))
    await get(side, "a")
    answers = side._servicer._ready_answers
    ready = answers.find(field(INDEX, b"a"), "dns:a") if answers else None
    assert ready
    for principal, is_permitted in (
        (Principal("dns:a", is_local=False), True),
        (Principal("dns:b", is_local=False), False),
        (Principal("dns:a", is_local=True), False),
    ):
        lines = len(side.log.entries)
        assert ready.grant.repeat(Repetition(principal, "unix:")) == is_permitted
        assert len(side.log.entries) == lines + is_permitted


async def test_identities_have_answers_of_their_own(side: Side, parsed: list[bytes]) -> None:
    await side.open()
    side.path("a").write_bytes(record(1))
    for _ in range(2):
        for identity in ("dns:a", "dns:b"):
            await get(side, "a", identity)
    assert len(parsed) == 2


async def test_answers_are_bounded(
    side: Side, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_answers, "_MAX_BYTES", 2000)
    await side.open()
    answers = ReadyAnswers()
    side._servicer._ready_answers = answers
    for number in range(10):
        side.path(f"{number}").write_bytes(record(number))
        await get(side, f"{number}")
    assert answers._ready.size <= 2000
    await get(side, "9")
    assert len(parsed) == 10


async def test_long_request_leaves_no_answer(side: Side, parsed: list[bytes]) -> None:
    await side.open()
    side.path("a").write_bytes(record(1))
    for _ in range(2):
        assert b"000001" in await get(side, "a", padding=UNKNOWN * 400)
    assert len(parsed) == 2


async def test_cached_envelope_with_its_answer_takes_at_most_2_kib(side: Side) -> None:
    async def get_new(numbers: Sequence[int]) -> None:
        for number in numbers:
            envelope = Envelope(
                kms_name="prod-kms",
                provider="aws-kms",
                key_id="arn:aws:kms:us-east-1:111122223333:key/" + "0" * 36,
                region="us-east-1",
                wrapped_kek=number.to_bytes(4) * 46,
                version=1,
                created_at=1_700_000_000 + number,
            )
            side.path(f"tenant-{number:06}").write_bytes(encode(envelope))
            await get(side, f"tenant-{number:06}")
        side.log.entries.clear()
        gc.collect()

    parse_index_name.cache_clear()  # its dict could grow, if other tests filled it nearly
    await side.open()
    await get_new(range(300))  # fills the caches that keep fewer
    tracemalloc.start()
    try:
        # The dicts have room for 2,730, also for entries that are put twice on a busy machine.
        await get_new(range(300, 2200))
        # Imports and the threads of other tests allocate, too.
        filters = [tracemalloc.Filter(True, pattern) for pattern in ("*/kekd_*", "<string>")]
        kept = tracemalloc.take_snapshot().filter_traces(filters)
        assert 1024 < sum(trace.size for trace in kept.traces) / 1900 < 2048, kept.statistics(
            "lineno"
        )
    finally:
        tracemalloc.stop()
