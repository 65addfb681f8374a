"""Checks of authorization and audit, for every use case. They run against the real modules, and
against copies in which one call is missing.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, get_args

from kekd_common.policy import METHODS, Method, Rule
from kekd_schema import Envelope, encode
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit.auditor import OnFailure
from kekd_server.access.audit.denial_throttle import BURST
from kekd_server.access.grants.repeat_grant import RepeatGrant
from kekd_server.access.lease import Lease
from kekd_server.access.repetition import Repetition
from kekd_server.model.errors import (
    AccessDeniedError,
    AuditUnavailableError,
    InvalidEnvelopeError,
    InvalidIndexNameError,
    InvalidRequestError,
    KekdError,
    StoreNotConfiguredError,
    StoreUnavailableError,
    UnauthenticatedError,
    WatchFellBehindError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.observability.metrics import Metrics
from kekd_server.service import BatchGetResult, BatchPushResult
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.history.version_import import ImportedEnvelope
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.storage.watch.event import Change, ChangeKind, WatchEvent
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.writes.push import Push
from tests.fixtures.access import MemoryAuditLog, NoLease, access_to, request_of
from tests.fixtures.writes import create, delete, put

ME: Final = "dns:me"
NAME, OTHER, NEW = IndexName("i"), IndexName("other"), IndexName("new")
DELETED: Final = IndexName("deleted")
ENVELOPE: Final = Envelope(provider="none", version=1)
NOWHERE: Final = DiskLocation("/nowhere")
BROKEN: Final = InvalidIndexNameError("not a name")
BEAT: Final = 0.001
IMPORTED_NS: Final = time.time_ns() // 10**9 * 10**9 - 10**9
IMPORTED_TIME: Final = f"{datetime.fromtimestamp(IMPORTED_NS // 10**9, UTC):%FT%T}.000000+00:00"
OPERATIONS: Final = (
    *("get_cached", "confirm", "get", "create", "put", "delete", "list"),
    *("list_versions", "get_version", "restore", "undelete", "import_versions"),
    *("destroy", "find_hold", "hold", "release"),
)


class AuditLog(MemoryAuditLog):
    def __init__(self, *, is_full: bool = False) -> None:
        super().__init__()
        self.is_full = is_full

    async def write_and_wait(self, lines: Sequence[str]) -> None:
        if self.is_full:
            raise AuditUnavailableError
        await super().write_and_wait(lines)


class SpyStore(Store):
    """Notes each operation, and how much was audited before it."""

    def __init__(self, log: AuditLog, *, is_failing: bool = False) -> None:
        driver = MemoryDriver()
        self.etag = create(driver, NAME, encode(ENVELOPE))
        (self.version,) = driver.list_versions(NAME, after="", limit=1)
        create(driver, OTHER, encode(ENVELOPE))
        create(driver, DELETED, encode(ENVELOPE))
        delete(driver, DELETED, if_etag=None)
        self.touched: list[tuple[str, int]] = []
        self._log = log
        self._is_failing = is_failing
        for operation in OPERATIONS:
            setattr(driver, operation, self._spied(operation, getattr(driver, operation)))
        super().__init__(MemoryLocation(), driver, threads=1)
        put_many = self.put_many

        async def put_some(pushes: Sequence[Push], **keywords: Any) -> Any:
            assert pushes
            return await put_many(pushes, **keywords)

        self.put_many = put_some

    def _spied(self, operation: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*arguments: Any, **keywords: Any) -> Any:
            self._note(operation, *arguments)
            return original(*arguments, **keywords)

        return spy

    async def get_many(self, names: Sequence[IndexName], **keywords: Any) -> Any:
        assert names
        return await super().get_many(names, **keywords)

    @asynccontextmanager
    async def watch(self, *arguments: Any, **keywords: Any) -> AsyncIterator[Subscription]:
        self._note("watch")
        async with super().watch(*arguments, **keywords) as subscription:
            yield subscription

    def _note(self, operation: str, *arguments: Any) -> None:
        index = f" {arguments[0].value}" if arguments and operation != "list" else ""
        self.touched.append((f"{operation}{index}", len(self._log.entries)))
        if self._is_failing:
            raise StoreUnavailableError("down")


@dataclass
class Daemon:
    """A service over one store, and a request to it."""

    rules: Sequence[Rule] | None
    location: Location | None = None
    on_failure: OnFailure | None = None
    is_failing: bool = False
    has_full_log: bool = False
    has_log: bool = True
    lease: Lease = field(default_factory=NoLease)

    def __post_init__(self) -> None:
        self.selected: list[str] = []
        self.request = request_of(ME, lease=self.lease, on_store_selected=self.selected.append)
        self.log = AuditLog(is_full=self.has_full_log)
        self.store = SpyStore(self.log, is_failing=self.is_failing)
        self.service, self.policy, self.auditor = access_to(
            self.store,
            rules=self.rules,
            log=self.log if self.has_log else None,
            on_failure=self.on_failure,
        )

    @property
    def touched(self) -> list[str]:
        return [operation for operation, _ in self.store.touched]

    @property
    def events(self) -> list[str]:
        return [entry["event"] for entry in self.log.entries]

    async def outcome(self, case: "Case") -> object:
        """Returns the error of a call, or of the first entry of a batch, else its result."""
        result = await _result_of(case.call(self))
        return result.results[0] if isinstance(result, BatchGetResult | BatchPushResult) else result


async def _result_of(call: Awaitable[object]) -> object:
    try:
        return await call
    except KekdError as error:
        return error


@contextmanager
def daemon_of(rules: Sequence[Rule] | None, **options: Any) -> Iterator[Daemon]:
    daemon = Daemon(rules, **options)
    try:
        yield daemon
    finally:
        daemon.store.close()


class Case(NamedTuple):
    method: Method
    audited_index: str
    """The index in the audit log."""
    call: Callable[[Daemon], Awaitable[Any]]
    has_begin: bool = True
    is_batch: bool = False
    has_etag_after: bool = False
    has_etag_before: bool = False
    extra: Callable[[Daemon], dict[str, object]] = lambda _: {}
    """Further fields of the last line in the audit log."""

    @property
    def is_write(self) -> bool:
        return self.has_begin and self.method != "watch"

    @property
    def named_index(self) -> str:
        """The index in the audit log if the store is refused."""
        return "" if self.is_batch or self.audited_index.endswith("*") else self.audited_index

    def rule(self, **fields: Any) -> Rule:
        methods = {self.method, "read"} if self.audited_index.endswith("*") else {self.method}
        return Rule.model_validate(
            {"name": "mine", "identities": ME, "methods": sorted(methods), **fields}
        )


async def _watch(daemon: Daemon) -> None:
    async with daemon.service.watch(daemon.request, daemon.location, "") as watch:
        await watch.next(BEAT)


def _versions(daemon: Daemon) -> Awaitable[object]:
    return daemon.service.list_versions(
        daemon.request, daemon.location, NAME, 10, "", with_envelopes=True
    )


def _receipt(daemon: Daemon) -> dict[str, object]:
    destroyed = {
        "id": daemon.store.version.id,
        "etag": daemon.store.etag,
        "wrapped_kek_digest": "",
    }
    return {
        "justification": "tenant left",
        "receipt": {"destroyed": [destroyed], "remaining": []},
    }


def _imported(*fields: tuple[int, Envelope]) -> list[ImportedEnvelope]:
    origin = Origin(VersionEvent.PUSHED, "dns:other")
    return [ImportedEnvelope(time_ns, origin, envelope) for time_ns, envelope in fields]


CASES: Final[dict[str, Case]] = {
    "get": Case(
        "read",
        "i",
        lambda d: d.service.get(d.request, d.location, NAME),
        has_begin=False,
        has_etag_after=True,
    ),
    "get_version": Case(
        "read",
        "i",
        lambda d: d.service.get_version(d.request, d.location, NAME, d.store.version.id),
        has_begin=False,
        has_etag_after=True,
        extra=lambda d: {"version_id": d.store.version.id},
    ),
    "list_versions": Case("read", "i", _versions, has_begin=False),
    "get_many": Case(
        "read",
        "i",
        lambda d: d.service.get_many(d.request, d.location, [NAME]),
        has_begin=False,
        is_batch=True,
        has_etag_after=True,
    ),
    "create": Case(
        "create",
        "new",
        lambda d: d.service.create(d.request, d.location, NEW, ENVELOPE),
        has_etag_after=True,
    ),
    "undelete": Case(
        "create",
        "deleted",
        lambda d: d.service.undelete(d.request, d.location, DELETED),
        has_etag_after=True,
    ),
    "push": Case(
        "push",
        "i",
        lambda d: d.service.push(d.request, d.location, Push(NAME, ENVELOPE, None)),
        has_etag_after=True,
        has_etag_before=True,
    ),
    "restore": Case(
        "push",
        "i",
        lambda d: d.service.restore(
            d.request, d.location, NAME, d.store.version.id, if_etag=d.store.etag
        ),
        has_etag_after=True,
        has_etag_before=True,
        extra=lambda d: {"version_id": d.store.version.id},
    ),
    "push_many": Case(
        "push",
        "i",
        lambda d: d.service.push_many(d.request, d.location, [Push(NAME, ENVELOPE, None)]),
        is_batch=True,
        has_etag_after=True,
        has_etag_before=True,
    ),
    "delete": Case(
        "delete",
        "i",
        lambda d: d.service.delete(d.request, d.location, NAME, if_etag=None),
        has_etag_before=True,
    ),
    "delete if match": Case(
        "delete-if-match",
        "i",
        lambda d: d.service.delete(d.request, d.location, NAME, if_etag=d.store.etag),
        has_etag_before=True,
    ),
    "hold": Case(
        "hold",
        "i",
        lambda d: d.service.hold(d.request, d.location, NAME, "in court"),
        extra=lambda _: {"justification": "in court"},
    ),
    "release": Case("release", "i", lambda d: d.service.release(d.request, d.location, NAME)),
    "destroy": Case(
        "destroy",
        "i",
        lambda d: d.service.destroy(d.request, d.location, NAME, "tenant left", if_etag=None),
        extra=_receipt,
    ),
    "import_versions": Case(
        "import-history",
        "i",
        lambda d: d.service.import_versions(
            d.request, d.location, NAME, _imported((IMPORTED_NS, ENVELOPE))
        ),
        extra=lambda d: {
            "imported": [
                {
                    "time": IMPORTED_TIME,
                    "event": "pushed",
                    "caller": "dns:other",
                    "etag": d.store.etag,
                }
            ]
        },
    ),
    "list": Case(
        "list", "*", lambda d: d.service.list(d.request, d.location, "", 10, ""), has_begin=False
    ),
    "watch": Case("watch", "*", _watch),
}

Check = Callable[[Case], Awaitable[None]]


def _expect_denial(daemon: Daemon, case: Case, **fields: Any) -> None:
    assert daemon.touched == []
    (entry,) = daemon.log.entries
    expected = {
        "event": "end",
        "identity": ME,
        "method": case.method,
        "decision": "denied",
        "rule": None,
        "code": "PERMISSION_DENIED",
        "reason": "ACCESS_DENIED",
        "store": "memory",
        **fields,
    }
    assert expected.items() <= entry.items(), entry
    assert daemon.policy._decisions == {(case.method, "denied"): 1}


async def denied_call_never_reaches_the_store(case: Case) -> None:
    others = [
        method
        for method in METHODS
        if method != case.method and (method, case.method) != ("delete", "delete-if-match")
    ]
    rules = [case.rule(methods=others)]
    if not case.audited_index.endswith("*"):
        rules.append(case.rule(name="another index", indexes="another"))
    with daemon_of(rules) as daemon:
        error = await daemon.outcome(case)
        assert isinstance(error, AccessDeniedError)
        assert error.store == "memory"
        _expect_denial(daemon, case, index=case.audited_index)


async def caller_without_access_learns_nothing_of_the_store(case: Case) -> None:
    with daemon_of([case.rule(identities="dns:somebody")]) as daemon:
        error = await daemon.outcome(case)
        assert isinstance(error, AccessDeniedError)
        assert error.store == ""
        _expect_denial(daemon, case, index=case.named_index)


async def unknown_store_is_denied_like_one_without_access(case: Case) -> None:
    with daemon_of([case.rule(stores="memory")], location=NOWHERE) as daemon:
        error = await daemon.outcome(case)
        assert isinstance(error, AccessDeniedError)
        assert error.store == str(NOWHERE)
        fields = {"index": case.named_index, "reason": "STORE_NOT_CONFIGURED"}
        _expect_denial(daemon, case, store=str(NOWHERE), **fields)


async def unknown_store_named_by_the_rules_is_reported(case: Case) -> None:
    with daemon_of([case.rule()], location=NOWHERE) as daemon:
        assert isinstance(await daemon.outcome(case), StoreNotConfiguredError)
        fields = {"index": case.named_index, "reason": "STORE_NOT_CONFIGURED"}
        _expect_denial(daemon, case, store=str(NOWHERE), **fields)


async def allowed_call_is_audited_around_the_store(case: Case) -> None:
    with daemon_of([case.rule()]) as daemon:
        assert not isinstance(await daemon.outcome(case), Exception)
        assert daemon.selected == ["memory"]
        assert daemon.events == ["begin", "end"][not case.has_begin :]
        assert {audited for _, audited in daemon.store.touched} == {int(case.has_begin)}
        for entry in daemon.log.entries:
            expected = {"index": case.audited_index, "decision": "allowed", "rule": "mine"}
            assert expected.items() <= entry.items(), entry
        assert (entry["code"], entry["reason"]) == ("OK", None)
        assert (entry["etag_after"] is not None) == case.has_etag_after
        assert (entry["etag_before"] is not None) == case.has_etag_before
        assert case.extra(daemon).items() <= entry.items(), entry
        assert daemon.policy._decisions == {(case.method, "allowed"): 1}


async def allowed_call_works_without_an_audit_log(case: Case) -> None:
    with daemon_of(None, has_log=False) as daemon:
        assert not isinstance(await daemon.outcome(case), Exception)
        assert daemon.touched
    with daemon_of([], has_log=False) as daemon:
        assert isinstance(await daemon.outcome(case), AccessDeniedError)
        assert not daemon.touched
        daemon.auditor.flush()


async def failure_of_the_store_is_audited(case: Case) -> None:
    with daemon_of([case.rule()], is_failing=True) as daemon:
        assert isinstance(await daemon.outcome(case), StoreUnavailableError)
        entry = daemon.log.entries[-1]
        expected = {"event": "end", "code": "UNAVAILABLE", "reason": "STORE_UNAVAILABLE"}
        assert expected.items() <= entry.items(), entry


async def call_with_required_audit_fails_without_it(case: Case) -> None:
    settings: tuple[OnFailure | None, ...] = (None, *get_args(OnFailure))
    for on_failure in settings:
        is_required = on_failure != "allow" if case.is_write else on_failure == "deny"
        with daemon_of([case.rule()], has_full_log=True, on_failure=on_failure) as daemon:
            error = await daemon.outcome(case)
            assert isinstance(error, AuditUnavailableError) == is_required, on_failure
            if is_required and case.has_begin:
                assert not daemon.touched
                assert daemon.log.entries[-1]["reason"] == "AUDIT_UNAVAILABLE"
            else:
                assert daemon.touched


CHECKS: Final[list[Check]] = [
    denied_call_never_reaches_the_store,
    caller_without_access_learns_nothing_of_the_store,
    unknown_store_is_denied_like_one_without_access,
    unknown_store_named_by_the_rules_is_reported,
    allowed_call_is_audited_around_the_store,
    allowed_call_works_without_an_audit_log,
    failure_of_the_store_is_audited,
    call_with_required_audit_fails_without_it,
]


async def batch_reaches_the_store_with_its_allowed_entries_alone() -> None:
    rule = CASES["get"].rule(methods=["read", "push"], indexes=["i", "none"])
    with daemon_of([rule]) as daemon:
        names: list[IndexName | KekdError] = [OTHER, BROKEN, NAME, IndexName("none")]
        found = (await daemon.service.get_many(daemon.request, None, names)).results
        assert [getattr(result, "reason", "") for result in found] == [
            *("ACCESS_DENIED", "INDEX_NAME_INVALID", "", "ENVELOPE_NOT_FOUND")
        ]
        assert {operation.split()[1] for operation in daemon.touched} == {"i", "none"}
        assert daemon.policy._decisions == {("read", "denied"): 1, ("read", "allowed"): 2}
        ended = {entry["index"]: entry["reason"] for entry in daemon.log.entries}
        assert ended == {"other": "ACCESS_DENIED", "i": None, "none": "ENVELOPE_NOT_FOUND"}
    with daemon_of([rule]) as daemon:
        pushes: list[Push | KekdError] = [
            *(Push(OTHER, ENVELOPE, None), BROKEN, Push(NAME, ENVELOPE, None)),
            *(Push(NAME, ENVELOPE, "stale"), Push(NAME, Envelope(provider=""), None)),
        ]
        written = (await daemon.service.push_many(daemon.request, None, pushes)).results
        assert [getattr(result, "reason", "") for result in written] == [
            *("ACCESS_DENIED", "INDEX_NAME_INVALID", "", "ETAG_MISMATCH", "ENVELOPE_INVALID")
        ]
        assert daemon.touched == ["put i", "put i"]
        assert daemon.events == ["begin", "begin", "end", "end", "end"]
        assert [entry["etag_before"] for entry in daemon.log.entries[2:]] == [
            *(None, daemon.store.etag, None)
        ]


async def _repeat_grant(daemon: Daemon) -> RepeatGrant:
    grant = (await daemon.service.get(daemon.request, None, NAME)).repeat_grant
    assert grant
    return grant


def _repetition(daemon: Daemon) -> Repetition:
    return Repetition(daemon.request.principal, daemon.request.peer)


async def repeated_get_is_audited_and_counted_like_the_first() -> None:
    with daemon_of([CASES["get"].rule()]) as daemon:
        grant = await _repeat_grant(daemon)
        repetition = Repetition(daemon.request.principal, "unix:again")
        steps = (repetition.is_recorded, grant.repeat(repetition), repetition.is_recorded)
        assert steps == (False, True, True)
        first, second = daemon.log.entries
        assert second["request_id"] == repetition.request_id
        assert second["peer"] == "unix:again"
        varying = ("time", "request_id", "peer", "duration_ms")
        assert second == first | {field: second[field] for field in varying}
        assert grant.store_name == "memory"
        assert daemon.touched == ["get_cached i", "confirm i"]
        assert daemon.policy._decisions == {("read", "allowed"): 2}
    with daemon_of(None, has_log=False, on_failure="deny") as daemon:
        assert (await _repeat_grant(daemon)).repeat(_repetition(daemon))


CHANGES: Final[dict[str, Callable[[Daemon], object]]] = {
    "policy": lambda d: d.policy.replace(d.rules),
    "identity": lambda d: setattr(d, "request", request_of("dns:other")),
    "locality": lambda d: setattr(d, "request", request_of(ME, is_local=False)),
    "record": lambda d: put(d.store._driver, NAME, encode(Envelope(provider="x")), if_etag=None),
    "deletion": lambda d: delete(d.store._driver, NAME, if_etag=None),
}


async def get_is_not_repeated_after_a_change() -> None:
    for change in CHANGES.values():
        with daemon_of([Rule(name="all", identities=("*",), methods=("*",))]) as daemon:
            grant = await _repeat_grant(daemon)
            change(daemon)
            assert not grant.repeat(_repetition(daemon))
            assert len(daemon.log.entries) == len(daemon.selected) == 1
            assert daemon.policy._decisions == {("read", "allowed"): 1}


async def get_that_must_wait_for_the_store_or_the_log_is_not_repeated() -> None:
    with daemon_of(None, on_failure="deny") as daemon:
        assert not (await _repeat_grant(daemon)).repeat(_repetition(daemon))
        assert len(daemon.log.entries) == 1
    with daemon_of(None) as daemon:
        uncached = replace(daemon.store._driver.get(NAME), proof=None)
        daemon.store._driver.get_cached = lambda _: uncached  # type: ignore[assignment, method-assign]
        assert (await daemon.service.get(daemon.request, None, NAME)).repeat_grant is None


async def denied_call_with_malformed_arguments_is_denied() -> None:
    with daemon_of([]) as daemon:
        service, request = daemon.service, daemon.request
        listing = await _result_of(service.list(request, None, "", 10, "not a token"))
        assert isinstance(listing, AccessDeniedError)
        assert daemon.log.entries[-1]["reason"] == "ACCESS_DENIED"
        surrogate = await _result_of(service.list(request, None, "\ud800", 10, ""))
        assert isinstance(surrogate, AccessDeniedError)


async def fully_denied_batch_has_one_line() -> None:
    names = [NAME, OTHER]
    with daemon_of([CASES["get"].rule(indexes="another")]) as daemon:
        assert daemon.service.denies_all(daemon.request, None, names)
        assert daemon.service.denies_all(daemon.request, NOWHERE, names)
        await daemon.service.get_many(daemon.request, None, names)
        (entry,) = daemon.log.entries
        assert (entry["decision"], entry["count"]) == ("denied", 2)
        assert not daemon.touched


async def denials_beyond_a_rate_have_one_line() -> None:
    with daemon_of([]) as daemon:
        for _ in range(BURST + 2):
            await daemon.outcome(CASES["get"])
        assert daemon.events == ["end"] * BURST
        daemon.auditor.flush()
        assert daemon.events[BURST:] == ["denials"]


async def invalid_envelope_does_not_reach_the_store() -> None:
    invalid = Envelope(provider="")
    with daemon_of(None) as daemon:
        service, request = daemon.service, daemon.request
        created = await _result_of(service.create(request, None, NEW, invalid))
        pushed = await _result_of(service.push(request, None, Push(NAME, invalid, None)))
        assert isinstance(created, InvalidEnvelopeError)
        assert isinstance(pushed, InvalidEnvelopeError)
        assert not daemon.touched


async def invalid_import_does_not_reach_the_store() -> None:
    future = time.time_ns() + 10**12
    imports = {
        InvalidEnvelopeError: [_imported((1, Envelope(provider="")))],
        InvalidRequestError: [
            *(_imported((0, ENVELOPE)), _imported((future, ENVELOPE))),
            *(_imported((1, ENVELOPE), (2, ENVELOPE)), _imported((1, ENVELOPE), (1, ENVELOPE))),
        ],
    }
    with daemon_of(None) as daemon:
        for error, invalid in imports.items():
            for versions in invalid:
                call = daemon.service.import_versions(daemon.request, None, NAME, versions)
                assert isinstance(await _result_of(call), error), versions
        assert not daemon.touched


async def decisions_are_counted_in_the_metrics() -> None:
    metrics = Metrics()
    AccessPolicy(None, metrics).decide(request_of(ME), "read", "memory", "i")
    metrics.sample()
    labels = {"method": "read", "decision": "allowed"}
    assert metrics.registry.get_sample_value("kekd_decisions_total", labels) == 1


async def batch_counts_its_entries_against_the_limits() -> None:
    class CountingLease(NoLease):
        entries = 0

        def add_entries(self, count: int) -> None:
            self.entries += count

    lease = CountingLease()
    with daemon_of(None, lease=lease) as daemon:
        await daemon.service.get_many(daemon.request, None, [NAME, OTHER])
        assert lease.entries == 2
        await daemon.service.push_many(daemon.request, None, [Push(NAME, ENVELOPE, None)])
        assert lease.entries == 3


async def listing_shows_the_listable_and_readable_indexes() -> None:
    rules = [
        CASES["list"].rule(name="list", methods="list", indexes=["*"]),
        CASES["list"].rule(name="read", methods="read", indexes=["?"]),
    ]
    with daemon_of(rules) as daemon:
        page = await daemon.service.list(daemon.request, None, "", 10, "")
        assert page.names == [NAME]
        all_names = daemon.service.list(daemon.request, None, "", 10, "", show_deleted=True)
        assert (await all_names).names == [NAME]
        assert not daemon.service.denies_all(daemon.request, None, [NAME])


async def pages_of_a_listing_are_full_of_visible_names() -> None:
    with daemon_of([CASES["list"].rule(indexes=["[!o]*"])]) as daemon:
        for name in (NEW, IndexName("z")):
            await daemon.store.create(name, ENVELOPE)
        names: list[IndexName] = []
        token, pages = "", 0
        while token or not pages:
            page = await daemon.service.list(daemon.request, None, "", 2, token)
            names, token, pages = names + page.names, page.next_token, pages + 1
        assert names == [NAME, NEW, IndexName("z")]
        assert pages == 2


async def listing_of_nothing_visible_does_not_reach_the_store() -> None:
    with daemon_of([CASES["list"].rule(indexes="another")]) as daemon:
        assert not (await daemon.service.list(daemon.request, None, "i", 10, "")).names
        assert not daemon.touched


def _publish(daemon: Daemon, *names: IndexName) -> None:
    for name in names:
        daemon.store._changes.publish(Change(ChangeKind.PUSHED, name, "etag"))


async def watch_shows_the_currently_visible_indexes() -> None:
    rule = CASES["watch"].rule(indexes="i")
    with daemon_of([rule]) as daemon:
        async with daemon.service.watch(daemon.request, None, "") as watch:
            assert watch.store_name == "memory"
            _publish(daemon, OTHER, NAME)
            event = await watch.next(60)
            assert isinstance(event, Change)
            assert event.name == NAME
            _publish(daemon, NAME)
            daemon.policy.replace([CASES["watch"].rule(indexes="other")])
            assert await watch.next(BEAT) is WatchEvent.HEARTBEAT


async def watch_ends_when_the_policy_forbids_it() -> None:
    case = CASES["watch"]
    with daemon_of([case.rule()]) as daemon:
        try:
            async with daemon.service.watch(daemon.request, None, "") as watch:
                daemon.policy.replace([case.rule(methods="read")])
                await watch.next(BEAT)
            raise AssertionError("still watching")
        except AccessDeniedError:
            pass
        assert daemon.events == ["begin", "end"]
        assert daemon.log.entries[-1]["decision"] == "denied"
        assert daemon.policy._decisions["watch", "denied"] == 1


async def watch_ends_when_the_identity_expires() -> None:
    with daemon_of([CASES["watch"].rule()]) as daemon:
        try:
            async with daemon.service.watch(daemon.request, None, "") as watch:
                daemon.request.principal.require_unexpired = _expire
                await watch.next(BEAT)
            raise AssertionError("still watching")
        except UnauthenticatedError:
            pass
        assert daemon.log.entries[-1]["reason"] == "UNAUTHENTICATED"


def _expire() -> None:
    raise UnauthenticatedError("expired")


async def empty_watch_ends_when_an_index_becomes_visible() -> None:
    case = CASES["watch"]
    with daemon_of([case.rule(indexes="another")]) as daemon:
        async with daemon.service.watch(daemon.request, None, "i") as watch:
            _publish(daemon, NAME)
            assert await watch.next(BEAT) is WatchEvent.HEARTBEAT
            daemon.policy.replace([case.rule()])
            try:
                await watch.next(BEAT)
                raise AssertionError("still watching")
            except WatchFellBehindError:
                pass


SCENARIOS: Final[list[Callable[[], Awaitable[None]]]] = [
    batch_reaches_the_store_with_its_allowed_entries_alone,
    repeated_get_is_audited_and_counted_like_the_first,
    get_is_not_repeated_after_a_change,
    get_that_must_wait_for_the_store_or_the_log_is_not_repeated,
    denied_call_with_malformed_arguments_is_denied,
    fully_denied_batch_has_one_line,
    denials_beyond_a_rate_have_one_line,
    invalid_envelope_does_not_reach_the_store,
    invalid_import_does_not_reach_the_store,
    decisions_are_counted_in_the_metrics,
    batch_counts_its_entries_against_the_limits,
    listing_shows_the_listable_and_readable_indexes,
    pages_of_a_listing_are_full_of_visible_names,
    listing_of_nothing_visible_does_not_reach_the_store,
    watch_shows_the_currently_visible_indexes,
    watch_ends_when_the_policy_forbids_it,
    watch_ends_when_the_identity_expires,
    empty_watch_ends_when_an_index_becomes_visible,
]


async def check_everything() -> None:
    for check in CHECKS:
        for case in CASES.values():
            await check(case)
    for scenario in SCENARIOS:
        await scenario()
