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

__all__ = [
    "METHODS",
    "DocumentError",
    "Method",
    "Policy",
    "PolicyError",
    "Rule",
    "applying",
    "contents",
    "covering",
    "decide",
    "read",
]
