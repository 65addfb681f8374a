"""Whether doctor reports a leftover scratch index, by the outcomes of its calls."""

from typing import Any, cast

import grpc
import pytest

import kekd
from kekd import _operations as operations
from kekd._cli.doctor import store
from kekd._transport.status import to_exception
from kekd.errors import BY_REASON
from kekd_common.reasons import Reason
from tests.unit.failed_call import FailedCall

STORE = kekd.StoreStatus("memory", is_default=True, healthy=True)
LATE = kekd.DeadlineExceededError("too late")
BROKEN = kekd.StoreMisconfiguredError("it cannot be written")


def failure(reason: Reason) -> kekd.EnvelopeError:
    return BY_REASON[reason]("", reason=reason)


def unreachable(*, may_be_applied: bool) -> kekd.EnvelopeError:
    """Returns the error of a create whose last attempt found no daemon."""
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
    operation = operations.create(None, "i", kekd.KMSBlob(provider="none"))
    return to_exception(call, "unix:/x", operation, may_be_applied=may_be_applied)


class Store:
    """Stores one envelope. Fails the call with the given number, and all deletes if `keeps`."""

    def __init__(self, *, fails: tuple[int, kekd.EnvelopeError], keeps: bool) -> None:
        self._fails = fails
        self._keeps = keeps
        self._calls = 0
        self._blob: kekd.KMSBlob | None = None

    def create_index_kms(self, _: Any, index: str, blob: kekd.KMSBlob) -> str:
        self._call()
        if self._blob:
            raise kekd.EnvelopeExistsError(index)
        return self._write(blob)

    def get_index_kms(self, *_: Any) -> kekd.KMSBlob:
        self._call()
        if not self._blob:
            raise kekd.EnvelopeNotFoundError("i")
        return self._blob

    def push_index_kms(self, _: Any, __: str, blob: kekd.KMSBlob, *, if_etag: str) -> str:
        self._call()
        if self._blob is None or self._blob.etag != if_etag:
            raise kekd.EtagMismatchError(if_etag)
        return self._write(blob)

    def delete_index_kms(self, *_: Any, if_etag: str | None) -> bool:
        self._call()
        if self._keeps:
            raise BROKEN
        if if_etag is not None and self._blob is not None and self._blob.etag != if_etag:
            raise kekd.EtagMismatchError(if_etag)
        existed, self._blob = self._blob is not None, None
        return existed

    def destroy_index_kms(self, *_: Any) -> kekd.DestructionReceipt:
        self._call()
        if self._keeps:
            raise BROKEN
        self._blob = None
        return kekd.DestructionReceipt("i", "memory", (), (), ())

    def list_versions_index_kms(self, *_: Any, **__: Any) -> list[kekd.EnvelopeVersion]:
        return []

    def _call(self) -> None:
        self._calls += 1
        if self._calls == self._fails[0]:
            raise self._fails[1]

    def _write(self, blob: kekd.KMSBlob) -> str:
        self._blob = blob
        blob.etag = f"etag {self._calls}"
        return blob.etag


def is_left(tried: Store) -> bool:
    findings = store.check_writes(cast("kekd.Client", tried), STORE, lambda: False)
    return any("may remain" in finding.text for finding in findings)


@pytest.mark.parametrize(
    ("call", "error", "keeps", "left"),
    [
        pytest.param(1, BROKEN, True, False, id="a create that failed wrote nothing"),
        pytest.param(1, LATE, False, True, id="a late create may be done later"),
        pytest.param(
            1, failure(Reason.AUDIT_UNAVAILABLE), False, False, id="a create without its audit"
        ),
        pytest.param(
            1, failure(Reason.SHUTTING_DOWN), False, False, id="a create that wasn't begun"
        ),
        pytest.param(
            1, failure(Reason.STORE_TIMEOUT), False, True, id="a create in a silent store"
        ),
        pytest.param(
            1, unreachable(may_be_applied=False), False, False, id="a create that no daemon got"
        ),
        pytest.param(
            1, unreachable(may_be_applied=True), False, True, id="a create whose answer was lost"
        ),
        pytest.param(2, LATE, False, False, id="a late get writes nothing"),
        pytest.param(2, LATE, True, True, id="what was created and cannot be deleted"),
        pytest.param(4, BROKEN, False, False, id="what is deleted"),
        pytest.param(9, BROKEN, True, True, id="a delete that failed"),
        pytest.param(0, BROKEN, False, False, id="nothing fails"),
    ],
)
def test_scratch_index_is_reported_only_where_it_can_remain(
    call: int, error: kekd.EnvelopeError, keeps: bool, left: bool
) -> None:
    assert is_left(Store(fails=(call, error), keeps=keeps)) is left
