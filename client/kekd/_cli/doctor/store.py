"""Whether a store keeps its promises, tried through the daemon on an index that nobody has."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd._models import KMSBlob, StorageConfig
from kekd._status import StoreStatus
from kekd._transport import channel
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
    "use an S3 that honours If-None-Match and If-Match in PutObject, as AWS does: known not to are"
    " Google Cloud Storage, Apache Ozone before 2.2 and MinIO before RELEASE.2025-09-07; or look"
    " for a proxy on the way that drops the headers. Until then, run one daemon and one rotator"
)
_UNBEGUN: Final = (Reason.AUDIT_UNAVAILABLE, Reason.SHUTTING_DOWN)
"""Why a daemon that is unavailable has done nothing."""
_RIVALS: Final = 8
_RACES: Final = 3
"""One race may be won by a single push by chance."""
_FILESYSTEM: Final = "use a filesystem with link(2) and flock(2) that hold for all who share it"


def scratch_name() -> str:
    return PREFIX + secrets.token_hex(8)


def _may_be_done(error: EnvelopeError) -> bool:
    """Whether a write that failed so may be done, also later than its answer was waited for."""
    if isinstance(error, UnavailableError):
        return error.reason not in _UNBEGUN if error.reason else channel.UNCERTAIN in str(error)
    return isinstance(error, DeadlineExceededError)


def check(client: "Client", store: StoreStatus, stopped: Callable[[], bool]) -> list[Finding]:
    """Leaves nothing behind, or says what; also when it is `stopped`, which it asks on its way."""
    trial = _StoreProbe(client, store.name)
    findings = []
    if not store.healthy:
        findings.append(warning(trial.check, f"the daemon last found: {store.error_message}"))
    try:
        for finding in trial.findings():
            findings.append(finding)
            if stopped():
                break
    except EnvelopeError as error:
        findings.append(trial.failed(error))
    finally:
        left = trial.clean_up()
    return findings + left


class _StoreProbe:
    """Each envelope that it writes is another one: so no retry can be taken for success."""

    def __init__(self, client: "Client", store: str) -> None:
        self.check = f"store {store}"
        self._client = client
        self._store = store
        self._location = StorageConfig.named(store)
        self._index = scratch_name()
        self._written = 0
        self._etag = ""
        self._doing = ""
        self._is_uncertain = False
        self._may_exist = False
        """Whether the scratch index may have an envelope."""
        self._ignoring = _CONDITIONS if self._location.kind == "s3" else _FILESYSTEM

    def findings(self) -> Iterator[Finding]:
        """Raises `EnvelopeError` where there is no going on."""
        yield self._writable()
        yield self._strict_create()
        yield self._conditional_push()
        yield self._simultaneous_pushes()
        yield self._conditional_delete()
        yield self._push_onto_nothing()

    def failed(self, error: EnvelopeError) -> Finding:
        self._is_uncertain = _may_be_done(error) and self._doing != _GET
        self._may_exist |= self._is_uncertain
        advice = ""
        if isinstance(error, PermissionDeniedError) and error.reason != Reason.STORE_NOT_CONFIGURED:
            advice = f"let this caller read, create, push and delete-if-match the indexes {PREFIX}*"
        return failure(self.check, f"{self._doing} failed: {error}", advice)

    def clean_up(self) -> list[Finding]:
        if not self._may_exist:  # nothing was written, or it is deleted
            return []
        with suppress(EnvelopeError):
            # By the etag, which takes fewer rights, unless nobody knows which it has.
            if_etag = None if self._is_uncertain else self._etag or None
            self._client.delete_index_kms(self._location, self._index, if_etag=if_etag)
            if not self._is_uncertain:
                return []
        advice = f"remove it later: kekctl delete {self._index} --store {self._store}"
        return [warning(self.check, f"the scratch index {self._index} may be left", advice)]

    def _writable(self) -> Finding:
        self._doing = "a create"
        envelope = self._next()
        self._etag = self._client.create_index_kms(self._location, self._index, envelope)
        self._may_exist = True
        self._doing = _GET
        read = self._client.get_index_kms(self._location, self._index)
        if (read, read.etag) != (envelope, self._etag):
            advice = "who else answers for it: a cache, or a replica that lags?"
            return failure(self.check, "what was written isn't what is read", advice)
        return ok(self.check, "can be written and read")

    def _strict_create(self) -> Finding:
        self._doing = "a second create"
        try:
            self._etag = self._client.create_index_kms(self._location, self._index, self._next())
        except EnvelopeExistsError:
            return ok(self.check, "a second create is refused")
        return failure(self.check, "a second create replaced the first", self._ignoring)

    def _conditional_push(self) -> Finding:
        self._doing = "a push with the right etag"
        stale, self._etag = self._etag, self._push(self._etag)
        self._doing = "a push with a stale etag"
        try:
            self._etag = self._push(stale)
        except EtagMismatchError:
            if self._client.get_index_kms(self._location, self._index).etag == self._etag:
                return ok(self.check, "a push with a stale etag is refused")
            return failure(self.check, "a push that was refused changed something", self._ignoring)
        return failure(self.check, "a push with a stale etag was accepted", self._ignoring)

    def _simultaneous_pushes(self) -> Finding:
        """Whether the store compares: the daemon itself compares before it asks S3 to."""
        self._doing = "several pushes at once with the same etag"
        for _ in range(_RACES):
            accepted = self._race()
            self._etag = self._client.get_index_kms(self._location, self._index).etag
            if not accepted:
                return failure(self.check, "no push with the right etag was accepted")
            if accepted > 1:
                return failure(self.check, f"{self._doing} were accepted", self._ignoring)
        return ok(self.check, "of several pushes at once with the same etag, one is accepted")

    def _race(self) -> int:
        """How many of several pushes with the same etag are accepted."""
        push = partial(self._client.push_index_kms, self._location, self._index, if_etag=self._etag)
        accepted = 0
        with ThreadPoolExecutor(_RIVALS) as threads:
            pushes = [threads.submit(push, blob=self._next()) for _ in range(_RIVALS)]
            for pushed in pushes:
                with suppress(EtagMismatchError):
                    pushed.result()
                    accepted += 1
        return accepted

    def _conditional_delete(self) -> Finding:
        """Of S3 it only shows that the daemon looks: it compares etags before it asks S3 to."""
        stale, self._etag = self._etag, self._push(self._etag)
        self._doing = "a delete with a stale etag"
        try:
            self._client.delete_index_kms(self._location, self._index, if_etag=stale)
        except EtagMismatchError:
            self._doing = "a delete with the right etag"
            self._client.delete_index_kms(self._location, self._index, if_etag=self._etag)
            self._may_exist = False
            return ok(self.check, "a delete with a stale etag is refused")
        return failure(self.check, "a delete with a stale etag was accepted", self._ignoring)

    def _push_onto_nothing(self) -> Finding:
        self._doing = "a push with an etag onto nothing"
        try:
            self._etag = self._push(self._etag)
        except EtagMismatchError:
            return ok(self.check, "a push with an etag onto nothing is refused")
        self._may_exist = True
        return failure(self.check, "a push with an etag made what was deleted", self._ignoring)

    def _push(self, if_etag: str) -> str:
        return self._client.push_index_kms(
            self._location, self._index, self._next(), if_etag=if_etag
        )

    def _next(self) -> KMSBlob:
        self._written += 1
        return KMSBlob(provider="none", created_at=self._written)
