"""Each use case is authorized and audited, and a denied one never reaches a store."""

from collections.abc import Awaitable, Callable

import pytest

from kekd_server.service import EnvelopeService
from tests.unit.authorization import CASES, CHECKS, SCENARIOS, Check


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_use_case_is_authorized_and_audited(check: Check, case: str) -> None:
    await check(CASES[case])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_scenario_is_authorized_and_audited(scenario: Callable[[], Awaitable[None]]) -> None:
    await scenario()


def test_every_use_case_has_a_case() -> None:
    methods = {name for name in vars(EnvelopeService) if not name.startswith("_")}
    assert methods - {"denies_all"} == CASES.keys() - {"delete if match"}
