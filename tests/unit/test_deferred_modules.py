"""Checks that a deferred module is imported when it is used, once, and for every importer."""

import importlib.util
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any

import pytest

from kekd_common.deferred_modules import DeferredModule, defer_modules

PACKAGE = "deferred_package"
SUBMODULE = f"{PACKAGE}.submodule"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on sys.path, which is forgotten after the test."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("answer = 42\n")
    (folder / "submodule.py").write_text("answer = 43\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield folder
    for name in (PACKAGE, SUBMODULE):
        sys.modules.pop(name, None)


def deferred(name: str = PACKAGE) -> Any:
    defer_modules([name])
    return importlib.import_module(name)


@pytest.mark.usefixtures("package")
def test_import_of_a_deferred_module_executes_nothing() -> None:
    module = deferred()
    assert isinstance(module, DeferredModule)
    assert importlib.import_module(PACKAGE) is module


@pytest.mark.usefixtures("package")
def test_use_of_an_attribute_imports_the_module() -> None:
    module = deferred()
    assert module.answer == 42
    imported = sys.modules[PACKAGE]
    assert type(imported) is ModuleType
    imported.answer = 44  # type: ignore[attr-defined]
    assert module.answer == 44


@pytest.mark.usefixtures("package")
def test_deferred_module_without_an_attribute_has_no_such_attribute() -> None:
    module = deferred()
    assert not hasattr(module, "missing")


@pytest.mark.usefixtures("package")
def test_import_of_a_submodule_imports_its_deferred_package() -> None:
    module = deferred()
    assert importlib.import_module(SUBMODULE).answer == 43
    assert type(sys.modules[PACKAGE]) is ModuleType
    assert module.submodule.answer == 43


@pytest.mark.usefixtures("package")
def test_deferred_submodule_is_an_attribute_of_its_package() -> None:
    defer_modules([SUBMODULE])
    names: dict[str, Any] = {}
    exec(f"from {PACKAGE} import submodule", names)
    assert isinstance(names["submodule"], DeferredModule)
    assert names["submodule"].answer == 43


@pytest.mark.usefixtures("package")
def test_imported_module_is_not_deferred() -> None:
    imported = importlib.import_module(PACKAGE)
    assert deferred() is imported


@pytest.mark.usefixtures("package")
def test_search_for_a_deferred_module_finds_it_and_executes_nothing() -> None:
    module = deferred()
    assert importlib.util.find_spec(PACKAGE)
    assert sys.modules[PACKAGE] is module


def test_threads_that_use_a_deferred_module_first_share_one_import(package: Path) -> None:
    (package / "__init__.py").write_text(
        "import sys\nsys.begun.set()\nsys.others.wait(60)\nanswer = object()\n"
    )
    module = deferred()
    begun, others = Event(), Event()
    sys.begun, sys.others = begun, others  # type: ignore[attr-defined]

    def use_while_it_is_imported() -> object:
        begun.wait(60)
        others.set()
        return module.answer

    try:
        with ThreadPoolExecutor(8) as threads:
            first = threads.submit(lambda: module.answer)
            later = [threads.submit(use_while_it_is_imported) for _ in range(7)]
            answers = {first.result(), *(future.result() for future in later)}
    finally:
        del sys.begun, sys.others  # type: ignore[attr-defined]
    assert answers == {sys.modules[PACKAGE].answer}
