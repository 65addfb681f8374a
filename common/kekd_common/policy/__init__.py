"""Who may do what. The daemon decides by it, and `kekctl policy check` tells how it would."""

from kekd_common.policy.document import DocumentError, contents
from kekd_common.policy.ranges import IndexRange, common_ranges, index_ranges
from kekd_common.policy.rules import (
    METHODS,
    Method,
    Policy,
    PolicyError,
    Rule,
    applying,
    covering,
    decide,
    read,
)

__all__ = [
    "METHODS",
    "DocumentError",
    "IndexRange",
    "Method",
    "Policy",
    "PolicyError",
    "Rule",
    "applying",
    "common_ranges",
    "contents",
    "covering",
    "decide",
    "index_ranges",
    "read",
]
