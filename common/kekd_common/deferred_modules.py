"""Defers the import of modules that a program's libraries import and the program doesn't use."""

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.machinery import ModuleSpec
from threading import Lock
from types import ModuleType
from typing import Any, Final

_LOCK: Final = Lock()


class DeferredModule(ModuleType):
    """A placeholder that imports its module when an attribute is used, and forwards the attribute.

    From then on, `import` statements get the module itself. The import is an ordinary one, so
    several threads can be the first to use a module at the same time. With
    `importlib.util.LazyLoader`, they can't before Python 3.12.3
    (https://github.com/python/cpython/issues/114763), and a second `import` statement executes the
    module.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None)  # `importlib.util.find_spec` needs one

    def __getattr__(self, name: str) -> Any:
        with _LOCK:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def defer_modules(names: Iterable[str]) -> None:
    """Puts placeholders in the place of installed modules that aren't imported yet.

    Call it in the main function of a program, before the imports of its libraries. Libraries must
    not call it, because it changes the imports of the whole process.

    `from module import name` uses an attribute, so it imports the module immediately.
    """
    for name in names:
        sys.modules.setdefault(name, DeferredModule(name))
