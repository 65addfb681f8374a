from typing import NamedTuple

import pytest

from kekd_server.storage.history.retention import Retention

DAY = 86_400 * 10**9
NOW = 100 * DAY


class Dated(NamedTuple):
    time_ns: int
    etag: str = ""
    is_deletion: bool = False


def live(days_ago: float, etag: str | None = None) -> Dated:
    return Dated(int(NOW - days_ago * DAY), str(days_ago) if etag is None else etag)


def deletion(days_ago: float) -> Dated:
    return Dated(int(NOW - days_ago * DAY), is_deletion=True)


@pytest.mark.parametrize(
    ("versions", "kept"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([live(90)], 1, id="the current one never expires"),
        pytest.param([live(1), live(2), live(3)], 2, id="beyond the number"),
        pytest.param([live(1), live(90)], 2, id="old, but replaced recently"),
        pytest.param(
            [live(1, "a"), live(2), live(3, "a"), live(4, "a")], 3, id="source of a restored one"
        ),
        pytest.param([live(1, "a"), live(40), live(90, "a")], 2, id="old source of a restored one"),
        pytest.param([live(40), live(90)], 1, id="replaced long ago"),
        pytest.param([deletion(1), live(90)], 2, id="deleted recently"),
        pytest.param([deletion(40), live(90)], 0, id="deleted long ago"),
        pytest.param([deletion(1), live(2), live(3), live(4)], 3, id="number before a deletion"),
        pytest.param([live(1), deletion(2), live(3), live(4)], 3, id="deletion in between"),
        pytest.param([live(1), live(2), deletion(3), live(4)], 3, id="deletion before the oldest"),
        pytest.param([live(1), deletion(2), deletion(3), live(4)], 4, id="two deletions"),
        pytest.param([deletion(1)], 1, id="a deletion alone"),
        pytest.param([deletion(40)], 0, id="an old deletion alone"),
    ],
)
def test_version_expires_by_number_and_age(versions: list[Dated], kept: int) -> None:
    expired = Retention(versions=2, days=30).find_expired(versions, NOW)
    assert versions[: len(versions) - len(expired)] == versions[:kept]
    assert len(expired) == len(versions) - kept


def test_last_version_of_a_deleted_index_is_kept_for_the_days_whatever_the_number() -> None:
    versions = [deletion(29), live(50)]
    assert not Retention(versions=1, days=30).find_expired(versions, NOW)


@pytest.mark.parametrize(
    ("versions", "days", "is_on"), [(1, 1, True), (0, 1, False), (1, 0, False)]
)
def test_zero_switches_the_history_off(versions: int, days: float, *, is_on: bool) -> None:
    assert Retention(versions, days).is_on == is_on
