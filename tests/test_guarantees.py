"""The list of guarantees names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (TESTS / "GUARANTEES.md").read_text())
SECURITY = (TESTS.parent / "docs" / "security.md").read_text()


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_test_of_a_guarantee_exists(file: str) -> None:
    named = {name for path, name in NAMED if path == file}
    assert named - functions(TESTS / file) == set()


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`tests/([\w/]+\.py)`", SECURITY))))
def test_file_that_the_security_page_names_exists(file: str) -> None:
    assert (TESTS / file).exists()
