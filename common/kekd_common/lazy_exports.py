"""Imports what a package exports on first use (https://peps.python.org/pep-0562/)."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    namespace: dict[str, Any], modules: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns the functions `__getattr__` and `__dir__` of the package with this namespace.

    `modules`: the modules that define the exported names.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module '{namespace['__name__']}' has no attribute '{name}'")
        value = namespace[name] = getattr(import_module(module_of[name]), name)
        return value

    return get, lambda: sorted({*namespace, *module_of})
