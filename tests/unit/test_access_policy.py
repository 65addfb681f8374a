"""Decisions while another thread replaces the policy."""

from collections.abc import Callable
from typing import Any

import pytest

from kekd_common.policy import Rule
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.caller_rules import CallerRules
from kekd_server.access.decision import AccessDecision
from kekd_server.observability.metrics import Metrics
from tests.fixtures.access import request_of

EVERYTHING = [Rule(name="all", identities=("*",), methods=("*",))]
NOTHING: list[Rule] = []


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> AccessPolicy:
    """Allows everything. Is replaced with one that denies, as soon as a decision has its rules."""
    policy = AccessPolicy(EVERYTHING, Metrics())
    rules_for = CallerRules.rules_for

    def replace_after(*arguments: Any) -> tuple[Rule, ...]:
        rules = rules_for(*arguments)
        policy.replace(NOTHING)
        return rules

    monkeypatch.setattr(CallerRules, "rules_for", replace_after)
    return policy


@pytest.mark.parametrize(
    "decide",
    [
        lambda policy: policy.decide(request_of(), "read", "store", "i"),
        lambda policy: policy.decide_many(request_of(), "read", "store", ["i"]).decisions()[0],
        lambda policy: policy.decide_prefix(request_of(), "list", "store", "i"),
    ],
    ids=["one", "many", "prefix"],
)
def test_decision_has_the_generation_of_the_rules_that_it_applied(
    policy: AccessPolicy, decide: Callable[[AccessPolicy], AccessDecision]
) -> None:
    before = policy.generation
    decision = decide(policy)
    assert not decision.is_denied
    assert decision.generation == before != policy.generation


def test_visibility_is_decided_by_the_rules_of_one_policy(policy: AccessPolicy) -> None:
    assert policy.visibility_filter(request_of().principal, "list", "store")("i")
