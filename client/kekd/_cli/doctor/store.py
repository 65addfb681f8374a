"""Checks a store's guarantees through the daemon, on a scratch index."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd._models import KMSBlob, StorageConfig
from kekd._status import StoreStatus
from kekd._transport.status import MAYBE_APPLIED
from kekd.errors import (
    DeadlineExceededError,
    EnvelopeError,
    EnvelopeExistsError,
    EtagMismatchError,
    PermissionDeniedError,
    UnavailableError,
)
from kekd_common.reasons import Reason

if TYPE_CHECKING:
    from kekd._client import Client

PREFIX: Final = "kekd-doctor-"
_GET: Final = "a get"

# docs/runbook.md has the sources.
_CONDITIONS: Final = (
    "use an S3 server that honours If-None-Match and If-Match in PutObject, and no proxy that drops"
    " these headers; Google Cloud Storage, Apache Ozone before 2.2 and MinIO before"
    " RELEASE.2025-09-07 don't honour them. Until then, run one daemon and one rotator"
)
_NOT_APPLIED: Final = Reason.SHUTTING_DOWN
"""The reason of a daemon that is unavailable and hasn't applied the write."""
_SIMULTANEOUS_PUSHES: Final = 8
_RACES: Final = 3
"""In one race, only one push may succeed by chance."""
_FILESYSTEM: Final = "use a filesystem whose link(2) and flock(2) work between all its clients"


def scratch_name() -> str:
    return PREFIX + secrets.token_hex(8)


def _may_be_applied(error: EnvelopeError) -> bool:
    """Whether a write that failed with this error may have been applied, or may be later."""
    if isinstance(error, UnavailableError):
        return error.reason != _NOT_APPLIED if error.reason else MAYBE_APPLIED in str(error)
    return isinstance(error, DeadlineExceededError)


def check(client: "Client", store: StoreStatus, is_stopped: Callable[[], bool]) -> list[Finding]:
    """Runs the checks until one fails or `is_stopped`, and deletes the scratch index.

    The last finding names the scratch index if it may remain.
    """
    probe = _StoreProbe(client, store.name)
    findings = []
    if not store.healthy:
        text = f"unhealthy at the daemon's last check: {store.error_message}"
        findings.append(warning(probe.check, text, "compare with the findings below"))
    try:
        for finding in probe.findings():
            findings.append(finding)
            if is_stopped():
                break
    except EnvelopeError as error:
        findings.append(probe.failed(error))
    finally:
        leftovers = probe.clean_up()
    return findings + leftovers


class _StoreProbe:
    """Tests one store. Each envelope written is different, so a retry never looks like success."""

    def __init__(self, client: "Client", store: str) -> None:
        self.check = f"store {store}"
        self._client = client
        self._store = store
        self._location = StorageConfig.named(store)
        self._index = scratch_name()
        self._written = 0
        self._etag = ""
        self._step = ""
        self._is_uncertain = False
        self._may_exist = False
        """Whether the scratch index may have an envelope."""
        self._requirement = _CONDITIONS if self._location.kind == "s3" else _FILESYSTEM

    def findings(self) -> Iterator[Finding]:
        """Raises `EnvelopeError` if a step fails, which ends the checks."""
        yield self._writable()
        yield self._strict_create()
        yield self._conditional_push()
        yield self._simultaneous_pushes()
        yield self._conditional_delete()
        yield self._push_onto_nothing()

    def failed(self, error: EnvelopeError) -> Finding:
        self._is_uncertain = _may_be_applied(error) and self._step != _GET
        self._may_exist |= self._is_uncertain
        advice = ""
        if isinstance(error, PermissionDeniedError) and error.reason != Reason.STORE_NOT_CONFIGURED:
            advice = (
                f"allow this caller to read, create, push and delete-if-match indexes {PREFIX}*"
            )
        return failure(self.check, f"{self._step} failed: {error}", advice)

    def clean_up(self) -> list[Finding]:
        if not self._may_exist:  # nothing was written, or it is deleted
            return []
        with suppress(EnvelopeError):
            # A delete with an etag needs fewer rights, but after a lost reply the etag is unknown.
            if_etag = None if self._is_uncertain else self._etag or None
            self._client.delete_index_kms(self._location, self._index, if_etag=if_etag)
            if not self._is_uncertain:
                return []
        advice = f"delete it later: kekctl delete {self._index} --store {self._store}"
        return [warning(self.check, f"the scratch index {self._index} may remain", advice)]

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
            self._etag = self._client.create_index_kms(self._location, self._index, self._next())
        except EnvelopeExistsError:
            return ok(self.check, "a second create is refused")
        return failure(self.check, "a second create replaced the first", self._requirement)

    def _conditional_push(self) -> Finding:
        self._step = "a push with the right etag"
        stale, self._etag = self._etag, self._push(self._etag)
        self._step = "a push with a stale etag"
        try:
            self._etag = self._push(stale)
        except EtagMismatchError:
            if self._client.get_index_kms(self._location, self._index).etag == self._etag:
                return ok(self.check, "a push with a stale etag is refused")
            return failure(
                self.check, "a push that was refused changed the envelope", self._requirement
            )
        return failure(self.check, "a push with a stale etag was accepted", self._requirement)

    def _simultaneous_pushes(self) -> Finding:
        """Tests the comparison in the store: the daemon compares etags before it asks S3 to."""
        self._step = "several simultaneous pushes with the same etag"
        for _ in range(_RACES):
            accepted = self._race()
            self._etag = self._client.get_index_kms(self._location, self._index).etag
            if not accepted:
                return failure(self.check, "no push with the right etag was accepted")
            if accepted > 1:
                return failure(self.check, f"{self._step} were accepted", self._requirement)
        return ok(
            self.check, "only one of several simultaneous pushes with the same etag is accepted"
        )

    def _race(self) -> int:
        """Returns how many of several simultaneous pushes with the same etag are accepted."""
        push = partial(self._client.push_index_kms, self._location, self._index, if_etag=self._etag)
        accepted = 0
        with ThreadPoolExecutor(_SIMULTANEOUS_PUSHES) as threads:
            pushes = [threads.submit(push, blob=self._next()) for _ in range(_SIMULTANEOUS_PUSHES)]
            for pushed in pushes:
                with suppress(EtagMismatchError):
                    pushed.result()
                    accepted += 1
        return accepted

    def _conditional_delete(self) -> Finding:
        """Tests on S3 only the daemon, which compares etags before it asks S3 to."""
        stale, self._etag = self._etag, self._push(self._etag)
        self._step = "a delete with a stale etag"
        try:
            self._client.delete_index_kms(self._location, self._index, if_etag=stale)
        except EtagMismatchError:
            self._step = "a delete with the right etag"
            self._client.delete_index_kms(self._location, self._index, if_etag=self._etag)
            self._may_exist = False
            return ok(self.check, "a delete with a stale etag is refused")
        return failure(self.check, "a delete with a stale etag was accepted", self._requirement)

    def _push_onto_nothing(self) -> Finding:
        self._step = "a push with the etag of a deleted envelope"
        try:
            self._etag = self._push(self._etag)
        except EtagMismatchError:
            return ok(self.check, "a push with the etag of a deleted envelope is refused")
        self._may_exist = True
        return failure(
            self.check, "a push with the etag of a deleted envelope was accepted", self._requirement
        )

    def _push(self, if_etag: str) -> str:
        return self._client.push_index_kms(
            self._location, self._index, self._next(), if_etag=if_etag
        )

    def _next(self) -> KMSBlob:
        self._written += 1
        return KMSBlob(provider="none", created_at=self._written)
