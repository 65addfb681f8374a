"""Removes each authorization call and each audit call in turn, and sees a check fail.

A mutant is one function without one statement, context or condition, or with one call replaced by
what it would return if it checked and recorded nothing.
"""

import ast
import asyncio
import copy
import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Final, NamedTuple

import pytest

from kekd_server import service
from kekd_server.access import access_policy, authorizer, batch_decision, decision, grants
from kekd_server.access.audit import audited_store, auditor, batch_records
from tests.patience import PATIENCE
from tests.unit.authorization import check_everything

GRANTS: Final = [
    import_module(f"{grants.__name__}.{module.name}") for module in iter_modules(grants.__path__)
]
MODULES: Final = (
    *(service, authorizer, access_policy, audited_store, auditor, decision, batch_decision),
    *(batch_records, *GRANTS),
)

NEUTRAL: Final = {
    "_visibility_filter": "lambda index: True",
    "authorize": "None",
    "authorize_many": "None",
    "authorize_prefix": "None",
    "run_write": "write()",
    "is_visible": "True",
    "reauthorize": "self._record.decision",
}
"""Replacements for calls: the results of a call that checks and records nothing."""


class Mutant(NamedTuple):
    module: ModuleType
    owner: str
    """The class of the function; empty for a function of the module."""
    function: ast.FunctionDef | ast.AsyncFunctionDef
    """Already mutated."""
    description: str


class Mutator(ast.NodeTransformer):
    """Applies the mutation with one number, and counts all mutations."""

    def __init__(self, chosen: int) -> None:
        self._chosen = chosen
        self.count = 0
        self.description = ""

    def _is_chosen(self, node: ast.AST, what: str) -> bool:
        self.count += 1
        if self.count - 1 != self._chosen:
            return False
        self.description = f"{what}: {ast.unparse(node).splitlines()[0]}"
        return True

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        is_call = isinstance(node.value, ast.Call | ast.Await)
        if is_call and self._is_chosen(node, "without"):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if _sets_attribute(node.targets[0]) and self._is_chosen(node, "without"):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return ast.Pass() if self._is_chosen(node, "without") else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Pass() if self._is_chosen(node, "without") else node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> Any:
        for number, item in enumerate(node.items):
            if self._is_chosen(item, "without"):
                del node.items[number]
                return node if node.items else node.body
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        for constant in (True, False):
            if self._is_chosen(node.test, f"always {constant}"):
                node.test = ast.Constant(constant)
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        for number, test in enumerate(node.ifs):
            if self._is_chosen(test, "without"):
                del node.ifs[number]
                return node
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        neutral = NEUTRAL.get(getattr(node.func, "attr", ""))
        if neutral and self._is_chosen(node, f"{neutral} for"):
            return ast.parse(neutral, mode="eval").body
        return self.generic_visit(node)


def _sets_attribute(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) or (
        isinstance(target, ast.Tuple) and all(map(_sets_attribute, target.elts))
    )


def functions_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield "", node
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield node.name, part


def mutants_of(module: ModuleType, owner: str, function: Any) -> Iterator[Mutant]:
    counter = Mutator(-1)
    counter.visit(copy.deepcopy(function))
    for number in range(counter.count):
        mutator = Mutator(number)
        mutated = mutator.visit(copy.deepcopy(function))
        yield Mutant(module, owner, mutated, mutator.description)


ENDLESS: Final = "always False: not isinstance(event, Change)"
"""Without its only return, `Watch.next` would never end."""
EQUIVALENT: Final = "always False: len(etags) == len(results)"
"""Makes records of reads that need none, with the same lines."""


def every_mutant() -> Iterator[Any]:
    for module in MODULES:
        for owner, function in functions_of(module):
            for mutant in mutants_of(module, owner, function):
                if mutant.description.startswith((ENDLESS, EQUIVALENT)):
                    continue
                name = module.__name__.rpartition(".")[2]
                place = f"{name}.{owner or function.name}.{function.name}"
                yield pytest.param(mutant, id=f"{place}: {mutant.description}")


def install(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ast.fix_missing_locations(ast.Module([mutant.function], type_ignores=[]))
    namespace: dict[str, Any] = {}
    code = compile(tree, "<mutant>", "exec", flags=0, dont_inherit=True)
    exec(code, vars(mutant.module), namespace)
    owner = getattr(mutant.module, mutant.owner) if mutant.owner else mutant.module
    monkeypatch.setattr(owner, mutant.function.name, namespace[mutant.function.name])


async def passes_every_check() -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            await check_everything()
    except Exception:  # noqa: BLE001  (a mutant may fail in any way)
        return False
    return True


@pytest.mark.parametrize("mutant", list(every_mutant()))
def test_mutant_fails_a_check(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    install(mutant, monkeypatch)
    assert not asyncio.run(passes_every_check())
