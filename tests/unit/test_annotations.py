"""The annotations of the API can be evaluated, as frameworks do, although types load lazily."""

import inspect
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest

import kekd
import kekd.kek
import kekd.testing


def annotated() -> Iterator[Any]:
    for module in (kekd, kekd.kek, kekd.testing):
        for name in module.__all__:
            exported = getattr(module, name)
            if inspect.isclass(exported):
                yield exported
                yield from (
                    member for _, member in inspect.getmembers(exported, inspect.isfunction)
                )
            elif inspect.isfunction(exported):
                yield exported


@pytest.mark.parametrize("exported", [*annotated()], ids=lambda exported: exported.__qualname__)
def test_annotations_of_the_api_are_defined(exported: Any) -> None:
    get_type_hints(exported)
