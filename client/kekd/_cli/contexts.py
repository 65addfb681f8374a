"""The contexts of kekctl: named daemons, in one JSON file.

{"current-context": "prod", "contexts": {"prod": {"address": "kekd.example:7535", …}}}
"""

import json
from pathlib import Path
from typing import Any, Final

import click

from kekd._cli.global_options import contexts_file

KEYS: Final = ("address", "ca", "cert", "key", "server-name", "store")

Context = dict[str, str]
"""Values of the options whose names are `KEYS`."""


class Contexts:
    """Not a dataclass, which would take longer to import than the file to read."""

    def __init__(
        self, path: Path, current: str = "", by_name: dict[str, Context] | None = None
    ) -> None:
        self.path = path
        self.current = current
        self.by_name = by_name or {}

    @classmethod
    def load(cls) -> "Contexts":
        """Without a file, there are no contexts. Raises click's errors for one it can't read."""
        path = contexts_file()
        if path is None:
            raise click.UsageError("no file for contexts: no home folder; set KEKCTL_CONFIG")
        try:
            content = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return cls(path)
        except OSError as error:
            raise click.ClickException(
                f"cannot read {path}: {error.strerror}; check its mode"
            ) from None
        except (ValueError, RecursionError):
            raise _invalid(path, "not JSON") from None
        match content:
            case {"contexts": dict(contexts)} if all(map(_is_context, contexts.values())):
                return cls(path, str(content.get("current-context", "")), contexts)
        raise _invalid(path, f'not {{"contexts": {{NAME: {{…}}}}}} with the keys {", ".join(KEYS)}')

    def save(self) -> None:
        # Imported here, because most commands only read the file.
        from kekd._cli.private_file import replace_private  # noqa: PLC0415

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {"current-context": self.current, "contexts": self.by_name}
        with replace_private(self.path) as file:
            file.write(json.dumps(content, indent=2) + "\n")

    def find(self, name: str) -> Context:
        """Raises a usage error for an unknown name."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name))
            advice = f"use {known}" if known else "add it with 'kekctl config set-context'"
            raise click.UsageError(f"no context '{name}' in {self.path}; {advice}")
        return self.by_name[name]

    def find_current(self) -> Context:
        """Returns an empty context if none is selected."""
        return self.find(self.current) if self.current else {}


def _invalid(path: Path, problem: str) -> click.ClickException:
    return click.ClickException(f"cannot use {path}: {problem}; correct or remove it")


def _is_context(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= set(KEYS)
        and all(isinstance(text, str) for text in value.values())
    )
