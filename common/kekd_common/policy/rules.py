"""The rules of a policy, and the function that evaluates them."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from kekd_common.methods import Method
from kekd_common.policy.document import DocumentError, load_yaml
from kekd_common.validation_error import describe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_INCLUDED_IN: Final[dict[str, str]] = {"delete-if-match": "delete"}
_NEVER_IMPLIED: Final = frozenset({"destroy", "hold", "import-history", "release"})
"""The methods that `*` doesn't include. They are for those who answer for the data, and a policy
that was written before them doesn't grant them."""


class PolicyError(Exception):
    """The policy is invalid. `problems` holds every reason, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _as_list(value: object) -> object:
    """Accepts a single string in place of a list."""
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=1024)]
Globs = Annotated[tuple[Text, ...], BeforeValidator(_as_list), Field(min_length=1)]
RuleMethods = Annotated[
    tuple[Literal[Method, "*"], ...], BeforeValidator(_as_list), Field(min_length=1)
]


class Rule(BaseModel):
    """Allows some identities to call some methods. A call that no rule allows is denied. No rule
    denies, so no rule can hide another, and their order doesn't matter.

    Identities, stores and indexes are globs as in Python's fnmatch: `*` matches any text, including
    slashes and the empty text, `?` one character, and `[abc]` one of three.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True, frozen=True)

    name: Text
    """Names the rule in the audit log and in `kekctl policy check`."""
    identities: Globs
    methods: RuleMethods
    stores: Globs = ("*",)
    """Match the names of stores, such as disk:/var/lib/cyborgdb."""
    indexes: Globs = ("*",)

    def allows(self, identity: str, method: Method, store: str | None) -> bool:
        """Returns whether the rule allows the method for some index. None means: in some store."""
        return (
            self._allows_method(method)
            and _matches(identity, self.identities)
            and (store is None or _matches(store, self.stores))
        )

    def _allows_method(self, method: Method) -> bool:
        if "*" in self.methods and method not in _NEVER_IMPLIED:
            return True
        return method in self.methods or _INCLUDED_IN.get(method) in self.methods

    @property
    def matches_every_index(self) -> bool:
        return "*" in self.indexes

    def matches_index(self, index: str) -> bool:
        return _matches(index, self.indexes)


def _distinct(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    names = [rule.name for rule in rules]
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two rules are named '{duplicates[0]}'; rename one")
    return rules


Policy = Annotated[tuple[Rule, ...], AfterValidator(_distinct)]
"""A policy without rules denies every call."""


class _File(BaseModel):
    model_config = ConfigDict(defer_build=True)

    policy: Policy | None = None


def read(path: Path) -> tuple[Rule, ...] | None:
    """Reads the policy of a configuration file, and none of its other settings. Returns None if the
    file has no policy. Raises `PolicyError`.
    """
    try:
        return _File.model_validate(load_yaml(path)).policy
    except DocumentError as error:
        raise PolicyError([str(error)]) from error
    except ValidationError as error:
        raise PolicyError([f"{path}: {_problem(detail)}" for detail in error.errors()]) from None


def evaluate(
    policy: Sequence[Rule], identity: str, method: Method, store: str | None, index: str | None
) -> Rule | None:
    """Returns the first rule that allows the call, or None if it is denied.

    A store or index of None means: some store, or some index. The result depends on the arguments
    alone.
    """
    return first_match(rules_for(policy, identity, method, store), index)


def rules_for(
    policy: Sequence[Rule], identity: str, method: Method, store: str | None
) -> tuple[Rule, ...]:
    """Returns the rules that allow the call if they match its index."""
    return tuple(rule for rule in policy if rule.allows(identity, method, store))


def first_match(rules: Iterable[Rule], index: str | None) -> Rule | None:
    """Returns the first of these rules that matches the index."""
    for rule in rules:  # a generator takes twice as long, for each get
        if index is None or rule.matches_index(index):
            return rule
    return None


def first_matches(rules: Sequence[Rule], indexes: Iterable[str]) -> list[Rule | None]:
    """Returns `first_match` for each index."""
    if rules and rules[0].matches_every_index:
        return [rules[0] for _ in indexes]
    return [first_match(rules, index) for index in indexes]


def _matches(name: str, globs: Sequence[str]) -> bool:
    return "*" in globs or any(fnmatchcase(name, glob) for glob in globs)


def _problem(error: "ErrorDetails") -> str:
    return f"{'.'.join(str(part) for part in error['loc'])}: {describe(error, Rule.model_fields)}"
