"""The access policy. The daemon and `kekctl policy check` evaluate it with the same functions."""

from kekd_common.methods import METHODS, Method
from kekd_common.policy.document import DocumentError, load_yaml
from kekd_common.policy.ranges import IndexRange, common_ranges, index_ranges
from kekd_common.policy.rules import (
    Policy,
    PolicyError,
    Rule,
    evaluate,
    first_match,
    first_matches,
    read,
    rules_for,
)

__all__ = [
    "METHODS",
    "DocumentError",
    "IndexRange",
    "Method",
    "Policy",
    "PolicyError",
    "Rule",
    "common_ranges",
    "evaluate",
    "first_match",
    "first_matches",
    "index_ranges",
    "load_yaml",
    "read",
    "rules_for",
]
