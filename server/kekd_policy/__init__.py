"""Who may do what. The daemon decides by it, and `kekctl policy check` tells how it would."""

from kekd_policy.document import DocumentError, contents
from kekd_policy.policy import (
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
from kekd_policy.ranges import IndexRange, common_ranges, index_ranges

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
