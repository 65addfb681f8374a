"""The S3 driver applies a write once, though its response is lost, late or a refusal."""

import pytest

from kekd_server.model.errors import EnvelopeExistsError, OutcomeUnknownError
from kekd_server.storage.s3.driver import S3Driver
from tests.contract.driver_contract import NAME
from tests.contract.s3_operations import RECORD
from tests.contract.scripted_s3 import (
    DELETED,
    MISSING,
    PUT_DONE,
    REFUSED,
    Response,
    ScriptedS3,
    error,
    http,
    stored,
)
from tests.fixtures.writes import create, delete

LOST = Response(b"", "close")


def test_delete_whose_response_was_lost_removes_no_later_envelope(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    """The rival creates the envelope again before the daemon reads it."""
    scripted_s3.play(stored(RECORD), LOST, stored(b"rival", etag='"rival"'), DELETED)
    with pytest.raises(OutcomeUnknownError):
        delete(driver, NAME, if_etag=None)
    assert [request.split()[0] for request in scripted_s3.requests].count("DELETE") == 1


def test_delete_whose_response_was_lost_succeeds_if_nothing_is_there(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(stored(RECORD), LOST, MISSING)
    assert delete(driver, NAME, if_etag="e") == "e"


def test_conditional_delete_refused_where_nothing_is_succeeds(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    """Some servers answer 412 where AWS answers 404."""
    scripted_s3.play(stored(RECORD), REFUSED, MISSING)
    assert delete(driver, NAME, if_etag="e") is None


def test_delete_that_s3_applied_late_reports_the_etag(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    """The first request is applied after its response was lost, and before the second one."""
    there = stored(RECORD)
    scripted_s3.play(there, LOST, there, there, REFUSED, MISSING)
    assert delete(driver, NAME, if_etag=None) == "e"


def test_delete_is_done_only_if_s3_says_so(driver: S3Driver, scripted_s3: ScriptedS3) -> None:
    there = stored(RECORD)
    scripted_s3.play(there, http("202 Accepted"), there, there, DELETED)
    assert delete(driver, NAME, if_etag=None) == "e"
    assert [request.split()[0] for request in scripted_s3.requests].count("DELETE") == 2


@pytest.mark.parametrize("refusal", [REFUSED, error("409 Conflict", "ConditionalRequestConflict")])
def test_create_refused_where_nothing_is_is_tried_again(
    driver: S3Driver, scripted_s3: ScriptedS3, refusal: Response
) -> None:
    scripted_s3.play(refusal, MISSING, PUT_DONE)
    assert create(driver, NAME, RECORD) == "new"


def test_create_deleted_by_another_after_its_response_was_lost_has_an_unknown_outcome(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(LOST, MISSING, PUT_DONE)
    with pytest.raises(OutcomeUnknownError):
        create(driver, NAME, RECORD)
    assert [request.split()[0] for request in scripted_s3.requests].count("PUT") == 1


def test_version_with_the_same_etag_and_another_mark_is_another_write(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    mine, rival = ({"x-amz-meta-kekd-write": mark} for mark in ("old", "rival"))
    scripted_s3.play(stored(RECORD, **mine), LOST, stored(RECORD, **rival), DELETED)
    with pytest.raises(OutcomeUnknownError):
        delete(driver, NAME, if_etag=None)


def test_create_over_an_existing_envelope_is_refused(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(REFUSED, stored(RECORD))
    with pytest.raises(EnvelopeExistsError):
        create(driver, NAME, RECORD)
