"""The rules of a policy, and what decides by them."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from kekd_common.policy.document import DocumentError, contents

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Method: TypeAlias = Literal["read", "list", "create", "push", "delete", "destroy", "watch"]
"""What can be done. `delete` removes the very envelope that the caller names by its etag, `destroy`
whatever is there; who may destroy may delete."""

METHODS: Final[tuple[Method, ...]] = get_args(Method)
_IMPLIED: Final[dict[str, str]] = {"delete": "destroy"}


class PolicyError(Exception):
    """A policy can't be used. `problems` holds every reason, a line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _several(value: object) -> object:
    """One can be written without the brackets of a list."""
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=1024)]
Globs = Annotated[tuple[Text, ...], BeforeValidator(_several), Field(min_length=1)]
Methods = Annotated[
    tuple[Method | Literal["*"], ...], BeforeValidator(_several), Field(min_length=1)
]


class Rule(BaseModel):
    """Lets some identities do something. What no rule lets happen doesn't: a policy has no rules
    that forbid, so that none can be hidden by another, and their order says nothing.

    Identities, stores and indexes are globs as of Python's fnmatch: * stands for anything, also
    for slashes and nothing, ? for any one character, [abc] for one of three.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    """For audit lines, and for whoever asks which rule decides."""
    identities: Globs
    methods: Methods
    stores: Globs = ("*",)
    """By their names, such as disk:/var/lib/cyborgdb."""
    indexes: Globs = ("*",)

    def lets(self, identity: str, method: Method, store: str | None) -> bool:
        """To some index. None stands for any store: whether there may be one."""
        return (
            not {"*", method, _IMPLIED.get(method)}.isdisjoint(self.methods)
            and _fits(identity, self.identities)
            and (store is None or _fits(store, self.stores))
        )

    def covers(self, index: str) -> bool:
        return _fits(index, self.indexes)


def _distinct(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    names = [rule.name for rule in rules]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two rules are named '{doubled[0]}'")
    return rules


Policy = Annotated[tuple[Rule, ...], AfterValidator(_distinct)]
"""Without any rule, nobody may do anything."""


class _File(BaseModel):
    policy: Policy | None = None


def read(path: Path) -> tuple[Rule, ...] | None:
    """The policy in a configuration file of the daemon, whose other settings it doesn't look at;
    None if it has none. Raises `PolicyError`.
    """
    try:
        return _File.model_validate(contents(path)).policy
    except DocumentError as error:
        raise PolicyError([str(error)]) from error
    except ValidationError as error:
        raise PolicyError([f"{path}: {_problem(it)}" for it in error.errors()]) from None


def decide(
    policy: Sequence[Rule], identity: str, method: Method, store: str | None, index: str | None
) -> Rule | None:
    """The first rule that lets it happen; None where it mustn't. It depends on nothing else.

    None stands for any store, or any index: whether there may be one.
    """
    return covering(applying(policy, identity, method, store), index)


def applying(
    policy: Sequence[Rule], identity: str, method: Method, store: str | None
) -> tuple[Rule, ...]:
    """The rules of which only the index is to be seen yet."""
    return tuple(it for it in policy if it.lets(identity, method, store))


def covering(rules: Iterable[Rule], index: str | None) -> Rule | None:
    """The first of those rules that covers it."""
    for rule in rules:  # a generator takes twice as long, for each get
        if index is None or rule.covers(index):
            return rule
    return None


def _fits(name: str, globs: Sequence[str]) -> bool:
    return "*" in globs or any(fnmatchcase(name, it) for it in globs)


def _problem(error: "ErrorDetails") -> str:
    text = error["msg"].removeprefix("Value error, ")
    text = text.replace("Extra inputs are not permitted", "there is no such key in a rule")
    return f"{'.'.join(str(it) for it in error['loc'])}: {text}"
