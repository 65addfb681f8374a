"""kekd's API has the signatures and error messages of cyborgdb_core."""

import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cyborgdb_core
import pytest

import kekd
from tests.fixtures.daemon import Daemon

FUNCTIONS: Final = ("create_index_kms", "push_index_kms", "get_index_kms", "delete_index_kms")


def documented(function: Any) -> list[inspect.Parameter]:
    """Reads the parameters of a cyborgdb_core function from its docstring: it has no signature."""
    line = function.__doc__.partition("\n")[0]
    scope: dict[str, Any] = {}
    exec(f"from __future__ import annotations\ndef {line}: ...", scope)
    return parameters(scope[function.__name__])


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]


def assert_extends(ours: list[inspect.Parameter], theirs: list[inspect.Parameter]) -> None:
    """Asserts that ours accepts every call of theirs: additions are optional keywords."""
    shape = [(parameter.name, parameter.kind, parameter.default) for parameter in ours]
    assert shape[: len(theirs)] == [
        (parameter.name, parameter.kind, parameter.default) for parameter in theirs
    ]
    for _, kind, default in shape[len(theirs) :]:
        assert kind is inspect.Parameter.KEYWORD_ONLY
        assert default is not inspect.Parameter.empty


def test_every_envelope_function_of_cyborgdb_is_compared() -> None:
    assert {name for name in dir(cyborgdb_core) if name.endswith("_index_kms")} == set(FUNCTIONS)


@pytest.mark.parametrize("owner", [kekd, kekd.Client, kekd.AsyncClient])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_methods_have_cyborgdbs_parameters(name: str, owner: object) -> None:
    assert_extends(parameters(getattr(owner, name)), documented(getattr(cyborgdb_core, name)))


@pytest.mark.parametrize("name", ["KMSBlob", "S3Credentials"])
def test_classes_have_cyborgdbs_parameters(name: str) -> None:
    theirs = documented(getattr(cyborgdb_core, name).__init__)
    assert_extends(parameters(getattr(kekd, name)), theirs)


@pytest.mark.parametrize("name", ["disk", "s3"])
def test_storage_configs_have_cyborgdbs_parameters(name: str) -> None:
    theirs = documented(getattr(cyborgdb_core.StorageConfig, name))
    assert_extends(parameters(getattr(kekd.StorageConfig, name)), theirs)


Sides = list[tuple[Any, Any]]

BLOB: Final = cyborgdb_core.KMSBlob("prod", "none")
NAMES: Final = ("my_index", "it's", "a/b", "日本語")


@pytest.fixture
def sides(memory_daemon: Daemon, tmp_path: Path) -> Iterator[Sides]:
    """Both implementations of the four functions, with their config_location."""
    with kekd.Client(memory_daemon.address) as client:
        yield [(client, None), (cyborgdb_core, cyborgdb_core.StorageConfig.disk(str(tmp_path)))]


def says(message: str) -> Any:
    return pytest.raises(ValueError, match=rf"\A{re.escape(message)}\Z")


def test_existing_envelope_has_the_same_error_in_both(sides: Sides) -> None:
    for (functions, config), name in itertools.product(sides, NAMES):
        functions.create_index_kms(config, name, BLOB)
        with says(f"KMS blob already exists for index '{name}'."):
            functions.create_index_kms(config, name, BLOB)


def test_missing_envelope_has_the_same_error_in_both(sides: Sides) -> None:
    for (functions, config), name in itertools.product(sides, NAMES):
        with says(f"No KMS blob exists for index '{name}'."):
            functions.get_index_kms(config, name)


def test_empty_name_has_the_same_error_in_both(sides: Sides) -> None:
    for functions, config in sides:
        with says("index_name cannot be empty."):
            functions.create_index_kms(config, "", BLOB)
        with says("index_name cannot be empty."):
            functions.push_index_kms(config, "", BLOB)
        with says("index_name cannot be empty."):
            functions.get_index_kms(config, "")
        with says("index_name cannot be empty."):
            functions.delete_index_kms(config, "")
