"""The contexts of kekctl: named daemons, in one JSON file.

{"current-context": "prod", "contexts": {"prod": {"address": "kekd.example:7535", …}}}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

import kekd
from kekd._cli.options.global_options import FILE_VARIABLE, contexts_file

KEYS: Final = ("address", "ca", "cert", "key", "server-name", "store")

Context = dict[str, str]
"""Values of the options whose names are `KEYS`."""


class Contexts:
    """Not a dataclass, which would take longer to import than the file to read."""

    def __init__(
        self, path: Path, current: str = "", by_name: dict[str, Any] | None = None
    ) -> None:
        self.path = path
        self.current = current
        self.by_name = by_name or {}
        """As in the file: `find` checks a context when it is used."""

    @classmethod
    def load(cls) -> "Contexts":
        """Without a file, there are no contexts. Raises click's errors for one it can't read."""
        path = contexts_file()
        if path is None:
            raise click.UsageError(f"no file for contexts: no home folder; set {FILE_VARIABLE}")
        try:
            content = json.loads(path.read_bytes() or b"{}")
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise click.ClickException(
                f"cannot read {path}: {error.strerror}; correct it, or set {FILE_VARIABLE} to"
                " another file"
            ) from None
        except (ValueError, RecursionError):
            raise _invalid(path, "not JSON") from None
        try:
            _check_keys("the file", content, {"current-context": str, "contexts": dict})
        except ValueError as error:
            raise _invalid(path, str(error)) from None
        return cls(path, content.get("current-context", ""), content.get("contexts", {}))

    def save(self) -> None:
        # Imported here, because most commands only read the file.
        from kekd._cli.private_file import replace_private  # noqa: PLC0415

        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(
                f"cannot create {self.path.parent}: {error.strerror}; set {FILE_VARIABLE} to a file"
                " in another folder"
            ) from None
        content = {"current-context": self.current, "contexts": self.by_name}
        with replace_private(self.path) as file:
            file.write(json.dumps(content, indent=2) + "\n")

    def find(self, name: str) -> Context:
        """Raises a usage error for an unknown name, and click's error for an invalid context."""
        self.require(name)
        context: Context = self.by_name[name]
        try:
            _check_context(name, context)
        except ValueError as error:
            raise _invalid(self.path, str(error)) from None
        return context

    def require(self, name: str) -> None:
        """Raises a usage error for an unknown name."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name))
            advice = f"use {known}" if known else "add it with 'kekctl config set-context'"
            raise click.UsageError(f"no context '{name}' in {self.path}; {advice}")

    def find_current(self) -> Context:
        """Returns an empty context if none is selected."""
        return self.find(self.current) if self.current else {}


def _invalid(path: Path, problem: str) -> click.ClickException:
    advice = "" if ";" in problem else "; correct or remove it"
    return click.ClickException(f"cannot use {path}: {problem}{advice}")


def _check_context(name: str, context: Any) -> None:
    _check_keys(f"context '{name}'", context, dict.fromkeys(KEYS, str))
    if "store" in context:
        try:
            kekd.StorageConfig.named(context["store"])
        except ValueError as error:
            raise ValueError(f"context '{name}': {error}") from None


def _check_keys(subject: str, content: Any, kinds: Mapping[str, type]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{subject} is not an object")  # noqa: TRY004
    for key, value in content.items():
        if key not in kinds:
            from difflib import get_close_matches  # noqa: PLC0415  (rarely needed)

            similar = get_close_matches(key, kinds, 1) or kinds
            raise ValueError(f"{subject} has the unknown key '{key}'; use {', '.join(similar)}")
        if not isinstance(value, kinds[key]):
            kind = "a text" if kinds[key] is str else "an object"
            raise ValueError(f"{subject}: '{key}' is not {kind}")  # noqa: TRY004
