"""Checks a store's guarantees through the daemon, on a scratch index."""

import itertools
import secrets
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd._models import KMSBlob, StorageConfig
from kekd._status import StoreStatus
from kekd._transport.operation import MAYBE_APPLIED
from kekd.errors import (
    DeadlineExceededError,
    EnvelopeError,
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    OutcomeUnknownError,
    PermissionDeniedError,
    UnavailableError,
)
from kekd_common.reasons import Reason

if TYPE_CHECKING:
    from kekd._client import Client

PREFIX: Final = "kekd-doctor-"
_GET: Final = "a get"
_REASON: Final = "end of kekctl doctor"

# docs/runbook.md has the sources.
_REPLACE_SERVER: Final = (
    "use an S3 server that honours If-None-Match and If-Match, each in one step with the write, and"
    " no proxy that drops these headers; Google Cloud Storage, Apache Ozone before 2.2 and MinIO"
    " before RELEASE.2025-09-07 don't. Until then, run one daemon and one rotator, and enable"
    " versioning of the bucket, so that you can restore an envelope that was lost"
)
_REPLACE_FILESYSTEM: Final = (
    "use a filesystem whose link(2) and flock(2) work between all its clients"
)
_NOT_APPLIED: Final = Reason.SHUTTING_DOWN
"""The reason of a daemon that is unavailable and hasn't applied the write."""
_WRITERS: Final = 8
"""In one race."""
_RACES: Final = 10
"""In one race, only one write may succeed by chance."""


class _Guarantee(NamedTuple):
    """What a store must do for kekd."""

    condition: str
    """The header and the operation by which S3 does it."""
    loss: str
    """What kekd can't promise without it."""


_STRICT_CREATE: Final = _Guarantee(
    "If-None-Match in PutObject", "a create can replace the envelope of another create"
)
_CONDITIONAL_PUSH: Final = _Guarantee(
    "If-Match in PutObject", "a push with an etag can replace an envelope that it didn't read"
)
_CONDITIONAL_DELETE: Final = _Guarantee(
    "If-Match in DeleteObject", "a delete with an etag can remove an envelope that was just pushed"
)


def scratch_name() -> str:
    return PREFIX + secrets.token_hex(8)


def _may_be_applied(error: EnvelopeError) -> bool:
    """Whether a write that failed with this error may have been applied, or may be later."""
    if isinstance(error, UnavailableError):
        return error.reason != _NOT_APPLIED if error.reason else MAYBE_APPLIED in str(error)
    return isinstance(error, DeadlineExceededError)


def check_status(store: StoreStatus) -> Iterator[Finding]:
    """Repeats what the daemon reports of the store. Writes nothing."""
    name = f"store {store.name}"
    if store.healthy:
        text = "healthy at the daemon's last check; its writes were not tested"
        yield ok(name, f"{text}: add --write to test them on an index {PREFIX}...")
    else:
        yield failure(name, _unhealthy(store), "correct the cause, and test the store with --write")
    yield from _describe(store)


def check_writes(
    client: "Client", store: StoreStatus, is_stopped: Callable[[], bool]
) -> list[Finding]:
    """Runs the checks until one fails or `is_stopped`, and destroys the scratch index.

    The last finding names the scratch index if it may remain.
    """
    probe = _StoreProbe(client, store.name)
    findings = []
    if not store.healthy:
        findings.append(warning(probe.check, _unhealthy(store), "compare with the findings below"))
    findings += _describe(store)
    try:
        for finding in probe.findings():
            findings.append(finding)
            if is_stopped():
                break
    except EnvelopeError as error:
        findings.append(probe.record_failure(error))
    finally:
        leftovers = probe.clean_up()
    return findings + leftovers


def _unhealthy(store: StoreStatus) -> str:
    return f"unhealthy at the daemon's last check: {store.error_message}"


def _describe(store: StoreStatus) -> Iterator[Finding]:
    if store.history:
        yield ok(f"history of {store.name}", store.history)
    if store.warning:
        yield warning(f"store {store.name}", store.warning)


class _StoreProbe:
    """Tests one store. Each envelope written is different, so a retry never looks like success."""

    def __init__(self, client: "Client", store: str) -> None:
        self.check = f"store {store}"
        self._client = client
        self._store = store
        self._location = StorageConfig.named(store)
        self._index = scratch_name()
        self._numbers = itertools.count(1)
        self._etag = ""
        self._step = ""
        self._is_uncertain = False
        self._may_exist = False
        """Whether the scratch index may have an envelope."""

    def findings(self) -> Iterator[Finding]:
        """Raises `EnvelopeError` if a step fails, which ends the checks."""
        yield self._writable()
        yield self._strict_create()
        yield self._conditional_push()
        yield self._conditional_delete()
        yield self._push_onto_nothing()
        yield self._simultaneous_creates()
        pushes = self._simultaneous_pushes()
        yield pushes
        if pushes.level == "ok":  # otherwise, the next one could not show a fault of deletes
            yield self._simultaneous_pushes_and_deletes()

    def record_failure(self, error: EnvelopeError) -> Finding:
        self._is_uncertain = _may_be_applied(error) and self._step != _GET
        self._may_exist |= self._is_uncertain
        advice = ""
        if isinstance(error, PermissionDeniedError) and error.reason != Reason.STORE_NOT_CONFIGURED:
            advice = (
                f"allow this caller to read, create, push, delete-if-match and destroy indexes"
                f" {PREFIX}*"
            )
        return failure(self.check, f"{self._step} failed: {error}", advice)

    def clean_up(self) -> list[Finding]:
        if not (self._etag or self._is_uncertain):  # nothing was written
            return []
        try:
            receipt = self._client.destroy_index_kms(self._location, self._index, _REASON)
        except EnvelopeError:
            return self._delete_at_end()
        if self._is_uncertain:
            return [self._remaining("may remain")]
        return [self._remaining(f"remains: {version.reason}") for version in receipt.remaining[:1]]

    def _delete_at_end(self) -> list[Finding]:
        """For a caller who may not destroy the index."""
        try:
            if self._may_exist:
                # A delete with an etag needs fewer rights, but is impossible after a lost reply.
                if_etag = None if self._is_uncertain else self._etag
                self._client.delete_index_kms(self._location, self._index, if_etag=if_etag)
            versions = self._client.list_versions_index_kms(
                self._location, self._index, page_size=1
            )
            has_versions = any(True for _ in versions)
        except EnvelopeError:
            return [self._remaining("may remain")]
        if self._is_uncertain:
            return [self._remaining("may remain")]
        return [self._remaining("is deleted, and remains in the history")] if has_versions else []

    def _remaining(self, text: str) -> Finding:
        store = shlex.quote(self._store)
        command = f"kekctl destroy {self._index} --store {store} --reason {_REASON!r}"
        advice = f"allow this caller to destroy indexes {PREFIX}*, and destroy it: {command}"
        return warning(self.check, f"the scratch index {self._index} {text}", advice)

    def _writable(self) -> Finding:
        self._step = "a create"
        envelope = self._next()
        self._etag = self._client.create_index_kms(self._location, self._index, envelope)
        self._may_exist = True
        self._step = _GET
        read = self._client.get_index_kms(self._location, self._index)
        if (read, read.etag) != (envelope, self._etag):
            advice = "look for a cache or a lagging replica between the daemon and the store"
            return failure(self.check, "the envelope read differs from the one written", advice)
        return ok(self.check, "writable and readable")

    def _strict_create(self) -> Finding:
        self._step = "a second create"
        try:
            self._etag = self._create()
        except EnvelopeExistsError:
            return ok(self.check, "a second create is refused")
        return self._broken("a second create replaced the first", _STRICT_CREATE)

    def _conditional_push(self) -> Finding:
        self._step = "a push with the right etag"
        stale, self._etag = self._etag, self._push(self._etag)
        self._step = "a push with a stale etag"
        try:
            self._etag = self._push(stale)
        except EtagMismatchError:
            if self._client.get_index_kms(self._location, self._index).etag == self._etag:
                return ok(self.check, "a push with a stale etag is refused")
            return self._broken("a push that was refused changed the envelope", _CONDITIONAL_PUSH)
        return self._broken("a push with a stale etag was accepted", _CONDITIONAL_PUSH)

    def _conditional_delete(self) -> Finding:
        stale, self._etag = self._etag, self._push(self._etag)
        self._step = "a delete with a stale etag"
        try:
            self._delete(stale)
        except EtagMismatchError:
            self._step = "a delete with the right etag"
            self._delete(self._etag)
            self._may_exist = False
            return ok(self.check, "a delete with a stale etag is refused")
        self._may_exist = False
        return self._broken("a delete with a stale etag was accepted", _CONDITIONAL_DELETE)

    def _push_onto_nothing(self) -> Finding:
        self._step = "a push with the etag of a deleted envelope"
        try:
            self._etag = self._push(self._etag)
        except EtagMismatchError:
            return ok(self.check, "a push with the etag of a deleted envelope is refused")
        self._may_exist = True
        return self._broken(
            "a push with the etag of a deleted envelope was accepted", _CONDITIONAL_PUSH
        )

    def _simultaneous_creates(self) -> Finding:
        self._step = "several simultaneous creates"
        for _ in range(_RACES):
            if self._may_exist:
                self._delete(self._etag)
            if sum(self._race([self._create] * _WRITERS)) > 1:
                return self._broken_in_race(
                    "several simultaneous creates were accepted", _STRICT_CREATE
                )
        return ok(self.check, "only one of several simultaneous creates is accepted")

    def _simultaneous_pushes(self) -> Finding:
        self._step = "several simultaneous pushes with the same etag"
        for _ in range(_RACES):
            accepted = sum(self._race([partial(self._push, self._etag)] * _WRITERS))
            if not accepted:
                return failure(self.check, "no push with the right etag was accepted")
            if accepted > 1:
                return self._broken_in_race(
                    "several simultaneous pushes with the same etag were accepted",
                    _CONDITIONAL_PUSH,
                )
        return ok(
            self.check, "only one of several simultaneous pushes with the same etag is accepted"
        )

    def _simultaneous_pushes_and_deletes(self) -> Finding:
        self._step = "simultaneous pushes and deletes with the same etag"
        for _ in range(_RACES):
            if not self._may_exist:
                self._etag = self._create()
            push, delete = partial(self._push, self._etag), partial(self._delete, self._etag)
            accepted = self._race([push, delete] * (_WRITERS // 2))
            if any(accepted[::2]) and any(accepted[1::2]):
                return self._broken_in_race(
                    "a push and a delete with the same etag were both accepted",
                    _CONDITIONAL_DELETE,
                )
        return ok(self.check, "a push and a delete with the same etag are never both accepted")

    def _race(self, writes: Sequence[Callable[[], object]]) -> list[bool]:
        """Does several writes at once, and returns which of them were accepted. The daemon compares
        etags before it asks the store to, so only simultaneous writes test the store.
        """
        self._may_exist = True
        with ThreadPoolExecutor(len(writes)) as threads:
            running = [threads.submit(write) for write in writes]
        accepted = [_is_accepted(write) for write in running]
        try:
            self._etag = self._client.get_index_kms(self._location, self._index).etag
        except EnvelopeNotFoundError:
            self._may_exist = False
        return accepted

    def _broken(self, text: str, guarantee: _Guarantee, manner: str = "") -> Finding:
        if self._location.kind != "s3":
            return failure(self.check, f"{text}, so {guarantee.loss}", _REPLACE_FILESYSTEM)
        cause = f"the S3 server does not honour {guarantee.condition}{manner}"
        return failure(self.check, f"{text}: {cause}, so {guarantee.loss}", _REPLACE_SERVER)

    def _broken_in_race(self, text: str, guarantee: _Guarantee) -> Finding:
        return self._broken(text, guarantee, " in one step with the write")

    def _create(self) -> str:
        return self._client.create_index_kms(self._location, self._index, self._next())

    def _push(self, if_etag: str) -> str:
        return self._client.push_index_kms(
            self._location, self._index, self._next(), if_etag=if_etag
        )

    def _delete(self, if_etag: str) -> bool:
        return self._client.delete_index_kms(self._location, self._index, if_etag=if_etag)

    def _next(self) -> KMSBlob:
        return KMSBlob(provider="none", created_at=next(self._numbers))


def _is_accepted(write: Future[object]) -> bool:
    try:
        return bool(write.result())
    except (EnvelopeExistsError, EtagMismatchError, OutcomeUnknownError):
        return False
